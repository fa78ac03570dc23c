"""The compiled kernels; all else is in pyproject.toml.

They are optional: without a C compiler the package installs all the same and trains with torch.
The library knows neither Python nor torch and is called through plain pointers, so one build serves
every version of both. `-ffp-contract=fast` fuses products with sums, as every instruction set that
can must do for equal bits.
"""

from setuptools import Extension, setup


def kernel(name: str, sources: tuple[str, ...], headers: tuple[str, ...]) -> Extension:
    """The library `_<name>`; sources and headers without their endings."""
    return Extension(
        f"tombola.kernels._{name}",
        sources=[f"tombola/kernels/{source}.c" for source in sources],
        depends=[f"tombola/kernels/{header}.h" for header in headers],
        extra_compile_args=["-O3", "-fno-math-errno", "-ffp-contract=fast", "-Wno-psabi"],
        libraries=["m"],
        optional=True,
        py_limited_api=True,
    )


setup(
    ext_modules=[
        kernel(
            "chain",
            ("chain", "conv"),
            ("chain", "chain_body", "conv", "conv_body", "lanes", "sets"),
        ),
        kernel("infer", ("infer",), ("infer_body", "sets")),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
