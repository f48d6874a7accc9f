"""The image is built once, and only by `make image-test`: it takes minutes, and needs programs that may be missing."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.image.built_image import PROGRAMS, BuiltImage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuiltImage]:
    if "IMAGE_TEST" not in os.environ:
        pytest.skip("make image-test builds the image")
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install buildah debootstrap")
    if os.geteuid() != 0:
        pytest.skip("only root may make a base image, and change its root folder")
    folder = tmp_path_factory.mktemp("image")
    yield BuiltImage(folder)
    # About 1.5 GB, which pytest would keep for three runs.
    shutil.rmtree(folder)
