"""The compiled kernels; all else is in pyproject.toml.

They are optional: without a C compiler the package installs all the same and trains with torch.
The library knows neither Python nor torch and is called through plain pointers, so one build serves
every version of both. `-ffp-contract=fast` fuses products with sums, as every instruction set that
can must do for equal bits.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "tombola.kernels._chain",
            sources=["tombola/kernels/chain.c", "tombola/kernels/conv.c"],
            depends=[
                "tombola/kernels/chain.h",
                "tombola/kernels/chain_body.h",
                "tombola/kernels/conv.h",
                "tombola/kernels/conv_body.h",
                "tombola/kernels/lanes.h",
            ],
            extra_compile_args=["-O3", "-fno-math-errno", "-ffp-contract=fast", "-Wno-psabi"],
            libraries=["m"],
            optional=True,
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
