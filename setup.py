"""The compiled kernels; all else is in pyproject.toml.

They are optional: without a C compiler the package installs all the same and trains with torch.
The library knows neither Python nor torch and is called through plain pointers, so one build serves
every version of both. `-ffp-contract=fast` fuses products with sums, as every instruction set that
can must do for equal bits.
"""

from setuptools import Extension, setup


def kernel(name: str, *headers: str) -> Extension:
    """The library `_<name>`, from `<name>.c`."""
    return Extension(
        f"tombola.kernels._{name}",
        sources=[f"tombola/kernels/{name}.c"],
        depends=[f"tombola/kernels/{header}" for header in headers],
        extra_compile_args=["-O3", "-fno-math-errno", "-ffp-contract=fast", "-Wno-psabi"],
        libraries=["m"],
        optional=True,
        py_limited_api=True,
    )


setup(
    ext_modules=[
        kernel("chain", "chain.h", "chain_body.h", "lanes.h"),
        kernel("infer", "infer_body.h"),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
