"""The compiled kernels. They are optional: without a compiler everything installs and a slower path does the work."""

from setuptools import Extension, setup

FOLDER = "stages/zipfit"

setup(
    ext_modules=[
        Extension(
            "stages.zipfit._kernel",
            sources=[f"{FOLDER}/{name}.c" for name in ("_kernel", "_overlap", "_ngrams")],
            depends=[f"{FOLDER}/{name}.h" for name in ("_common", "_huffman", "_parse")],
            extra_compile_args=["-O3"],
            optional=True,
        ),
        Extension(
            "stages.dedup._kernel",
            sources=["stages/dedup/_text.c", "stages/dedup/_pairs.c"],
            depends=["stages/dedup/_common.h"],
            extra_compile_args=["-O3"],
            optional=True,
        ),
    ]
)
