"""What a machine has, read from files as NVIDIA's driver and the kernel write them."""

from pathlib import Path

import pytest

from interlock.system.machine import Gpu, find_cores, find_gpus, find_memory, shared_devices

INFORMATION = """\
Model: \t\t NVIDIA A100-SXM4-40GB
IRQ:   \t\t 255
GPU UUID: \t {uuid}
Video BIOS: \t 92.00.45.00.06
Bus Type: \t PCIe
DMA Size: \t 47 bits
Bus Location: \t {bus}
Device Minor: \t {minor}
GPU Firmware: \t 535.129.03
GPU Excluded:\t No
"""


def driver(folder: Path, *cards: tuple[str, str, str]) -> Path:
    for bus, uuid, minor in cards:
        (folder / bus).mkdir(parents=True)
        (folder / bus / "information").write_text(INFORMATION.format(uuid=uuid, bus=bus, minor=minor))
    return folder


def devices(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return folder


def test_a_machine_without_the_driver_has_none(tmp_path: Path) -> None:
    assert find_gpus(tmp_path / "none", devices(tmp_path / "dev", "null", "nvme0")) == ()
    assert shared_devices(tmp_path / "dev") == ()


def test_processors_are_named_as_the_driver_names_them_whatever_their_order_on_the_bus(tmp_path: Path) -> None:
    cards = [("0000:07:00.0", "GPU-12ab-9f", "1"), ("0000:0b:00.0", "GPU-34cd-00", "0")]
    dev = devices(tmp_path / "dev", "nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-caps")
    assert find_gpus(driver(tmp_path / "gpus", *cards), dev) == (
        Gpu("GPU-34cd-00", str(dev / "nvidia0")),
        Gpu("GPU-12ab-9f", str(dev / "nvidia1")),
    )
    assert shared_devices(dev) == (str(dev / "nvidiactl"), str(dev / "nvidia-uvm"))


def test_one_that_the_driver_tells_nothing_of_is_known_by_its_number(tmp_path: Path) -> None:
    dev = devices(tmp_path / "dev", "nvidia0", "nvidia10", "nvidia2")
    found = find_gpus(driver(tmp_path / "gpus", ("0000:07:00.0", "GPU-??", "2")), dev)
    assert [gpu.name for gpu in found] == ["0", "2", "10"]


@pytest.mark.parametrize(
    ("text", "is_limit"), [("max\n", False), ("1073741824\n", True), ("9223372036854771712\n", False)]
)
def test_memory_is_what_the_machine_or_its_control_group_has(tmp_path: Path, text: str, is_limit: bool) -> None:
    whole = find_memory(())
    limit = tmp_path / "memory.max"
    limit.write_text(text)
    assert find_memory((tmp_path / "missing", limit)) == (2.0**30 if is_limit else whole)
    assert whole > 2**28
    assert find_cores() >= 1
