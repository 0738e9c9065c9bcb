"""Which device trains, on computers that are not at hand: a fake NVML and a fake torch stand for them."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studio.cli import doctor
from studio.errors import Problem, StudioError
from studio.estimate import earlier, machine
from studio.estimate.graph import estimate_graph
from studio.estimate.job import Facts
from studio.estimate.machine import Machine, this_machine
from studio.events import Event
from studio.graph.graph import Graph, Node, Wire
from studio.graph.problems import find_problems
from studio.graph.project import load_project, save_project
from studio.graph.registry import load_registry
from studio.nodes.train import NODE as TRAIN
from studio.recipe.facts import recipe_facts
from studio.runs import execute
from studio.runs.control import Control
from studio.runs.environment import describe
from studio.runs.fingerprint import resolved_settings, step_fingerprint
from studio.runs.folder import RunFolder
from studio.runs.plan import compile_plan
from studio.runs.records import Record, write_record
from studio.system import device, hardware, torch_report
from studio.system.torch_report import Build, TorchReport, has_kernels
from tests.gpus import (
    ADA,
    AMPERE,
    CUDA_13,
    GIB,
    MIG,
    PASCAL,
    SPARK,
    TURING,
    Card,
    NotSupported,
    Nvml,
    computer_with,
)
from tests.model_files import write_model
from tests.studio.runs.toy_runs import follow, start

__all__ = ["computer_with"]
CPU_BUILD = Build("2.13.0+cpu", None, None)
ROCM = Build("2.13.0+rocm7.1", None, "7.1")


def graph_of(device_name: str | None = None, **base: Any) -> Graph:
    """Data, a model and a training."""
    train = {} if device_name is None else {"device": device_name}
    return Graph(
        "p",
        (
            Node("data", "dataset", {"source": "./rows.jsonl"}),
            Node("base", "base_model", {"model": "./model", **base}),
            Node("train", "train", train),
        ),
        (
            Wire("data", "dataset", "train", "dataset"),
            Wire("base", "model", "train", "model"),
        ),
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A project's folder with a model and rows."""
    write_model(tmp_path / "model")
    row = json.dumps({"prompt": "2 + 2 =", "completion": "4"})
    (tmp_path / "rows.jsonl").write_text(f"{row}\n" * 20, encoding="utf-8")
    return tmp_path


def problems(graph: Graph, place: Path) -> list[Problem]:
    """The problems of devices and precision."""
    found = find_problems(graph, load_registry(), place)
    return [p for p in found if p.field in ("device", "dtype")]


# ------------------------------------------------------------------ a card that is not used


def only_problem(place: Path) -> Problem:
    """The only problem of the device, a warning on the Train node."""
    (found,) = problems(graph_of(), place)
    assert (found.node, found.field, found.severity) == ("train", "device", "warning")
    assert not found.blocks
    return found


def test_an_old_driver_is_named_before_the_run(computer_with: Any, place: Path) -> None:
    computer_with(ADA, driver="535.183.01", supports=(12, 2))
    found = only_problem(place)
    assert found.sentence == (
        "Train: NVIDIA L4 is not used: its driver 535.183.01 supports CUDA 12.2, and the installed torch "
        "2.13.0+cu130 needs CUDA 13.0. Training uses the CPU."
    )
    assert "driver 580 or newer" in found.hint
    assert this_machine(graph_of()).device == "cpu"
    assert this_machine(graph_of()).name == hardware.describe_cpu()
    assert recipe_facts(graph_of(), load_registry(), place).gpu is False
    assert device.current().label == hardware.describe_cpu()


def test_an_old_driver_without_nvml_is_known_from_torch(computer_with: Any, place: Path) -> None:
    computer_with(ADA, supports=(12, 2), nvml=False)
    assert "driver on your system is too old" in only_problem(place).sentence


def test_a_cpu_wheel_beside_a_card(computer_with: Any, place: Path) -> None:
    computer = computer_with(ADA, build=CPU_BUILD)
    found = only_problem(place)
    assert (
        "NVIDIA L4 is not used: the installed torch 2.13.0+cpu is a build for CPUs."
        in found.sentence
    )
    assert "LORA_STUDIO_TORCH=auto" in found.hint
    assert computer.asked == 0 or sys.platform != "linux"  # its version file is enough
    assert this_machine(graph_of()).device == "cpu"


def test_a_cpu_wheel_that_is_the_right_one(computer_with: Any, place: Path) -> None:
    """The set-up installs it where no CUDA build works: what helps then is another driver, or nothing."""
    computer_with(ADA, build=CPU_BUILD, driver="470.1", supports=(11, 4))
    found = only_problem(place)
    assert "its driver 470.1 is too old for any build of torch" in found.sentence
    assert "driver 525 or newer" in found.hint
    computer_with(Card("Tesla K80", 5, 12.0, capability=(3, 7)), build=CPU_BUILD)
    found = only_problem(place)
    assert "compute capability 3.7, which torch does not support" in found.sentence
    assert found.hint == ""


def test_pascal_has_no_code_in_the_wheel(computer_with: Any, place: Path) -> None:
    computer_with(PASCAL)
    found = only_problem(place)
    assert found.code == "gpu_unsupported"
    assert "GTX 1080 is not used: it has compute capability 6.1" in found.sentence
    assert "code only for 7.5, 8.0, 8.6, 9.0, 10.0, 12.0" in found.sentence
    assert device.current().kind == "cpu"


@pytest.mark.parametrize("visible", ["", "-1", "7", "1", "0,0", "GPU-99999999"])
def test_hidden_cards(
    computer_with: Any, place: Path, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    computer_with(ADA, ask=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    torch_report.ask()
    found = only_problem(place)
    assert f"CUDA_VISIBLE_DEVICES is “{visible}”, which hides it" in found.sentence
    assert this_machine(graph_of()).device == "cpu"


def test_a_driver_that_fails(
    computer_with: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computer = computer_with(ADA, ask=False)
    broken = TorchReport("2.13.0+cu130", "13.0", reason="CUDA unknown error")
    monkeypatch.setattr(torch_report, "_run", lambda: broken)
    torch_report.ask()
    found = only_problem(place)
    assert "NVIDIA L4 is not used: torch reports: CUDA unknown error." in found.sentence
    assert "Restart" in found.hint
    del computer


def test_torch_that_cannot_be_loaded(computer_with: Any, place: Path) -> None:
    computer_with(ADA, broken="OSError: c10.dll is missing")
    found = only_problem(place)
    assert "torch cannot be loaded: OSError: c10.dll is missing." in found.sentence


def test_rocm_is_refused_in_a_sentence(computer_with: Any, place: Path) -> None:
    computer_with(build=ROCM)
    found = only_problem(place)
    assert (
        "a build for AMD GPUs (ROCm 7.1), which training does not support: it uses the CPU"
        in found.sentence
    )
    assert problems(graph_of("cpu"), place) == []
    chosen = device.use("auto")
    assert chosen.kind == "cpu"
    assert os.environ["HIP_VISIBLE_DEVICES"] == os.environ["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_computer_without_a_card_has_no_problem(computer_with: Any, place: Path) -> None:
    for build in (CPU_BUILD, Build("2.13.0", "13.0", None)):
        computer_with(build=build)
        assert problems(graph_of(), place) == []
        assert device.current().kind == "cpu"


def test_a_mac_says_that_its_gpu_is_not_used(
    computer_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    computer_with(build=Build("2.13.0", None, None), ask=False)
    monkeypatch.setattr(torch_report.sys, "platform", "darwin")
    monkeypatch.setattr(torch_report.platform, "machine", lambda: "arm64")
    assert device.current().label.endswith("(the Apple GPU is not used)")
    assert this_machine().name.endswith("(the Apple GPU is not used)")
    assert device.why_unused() is None  # nothing that the user could change


def test_a_run_says_it_too(computer_with: Any, place: Path) -> None:
    computer_with(ADA, supports=(12, 2))
    compiled = compile_plan(graph_of(), load_registry(), place)
    assert compiled.plan is not None, compiled.problems
    folder = RunFolder.create(place / "runs", compiled.plan, graph_of())
    events: list[Event] = []
    control = Control()
    control.request("stop")
    execute.execute(compiled.plan, folder, events.append, control, load_registry())
    assert (events[0].name, events[1].name) == ("RunStarted", "Notice")
    assert events[0].get("device") == hardware.describe_cpu()
    assert events[1].get("sentence").startswith("NVIDIA L4 is not used: its driver")
    assert "driver 580" in events[1].get("hint")
    assert describe(compiled.plan, 2)["device"] == hardware.describe_cpu()


def test_a_run_without_a_model_does_not_mention_the_card(computer_with: Any, place: Path) -> None:
    """It prepares data only, on the CPU in any case."""
    computer_with(ADA, supports=(12, 2))
    graph = Graph("p", (graph_of().node("data"),), ())
    plan = compile_plan(graph, load_registry(), place).plan
    assert plan is not None
    events: list[Event] = []
    control = Control()
    control.request("stop")
    folder = RunFolder.create(place / "runs", plan, graph)
    execute.execute(plan, folder, events.append, control, load_registry())
    assert [e.name for e in events if e.name in ("RunStarted", "Notice")] == ["RunStarted"]


def test_a_run_whose_card_is_gone_ends_with_a_sentence(
    computer_with: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started with a card, resumed without it: a real host, on a computer that has none."""
    computer_with(ADA)
    graph = graph_of(ADA.name)
    plan = compile_plan(graph, load_registry(), place).plan
    assert plan is not None
    folder = RunFolder.create(place / "runs", plan, graph)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # also where the tests run with one
    events = follow(start(folder))
    (failed,) = [e for e in events if e.name == "StepFailed"]
    assert "no device “NVIDIA L4” that torch can use" in failed.get("sentence")
    assert "Choose one of: auto" in failed.get("hint")
    assert events[-1].get("status") == "failed"


# ------------------------------------------------------------------ several cards


def test_nvml_and_cuda_count_differently(computer_with: Any, place: Path) -> None:
    """The faster card is CUDA's first and NVML's second."""
    for new_torch in (True, False):  # an older torch has no place on the bus, but a UUID
        computer_with(ADA, AMPERE, new_torch=new_torch)
        assert hardware.gpus()[0].name == AMPERE.name
        found = this_machine(graph_of())
        assert (found.device, found.name) == ("cuda", "NVIDIA L4, 22 GiB")
        assert (found.total, found.available) == (22 * GIB, 20 * GIB)
        other = this_machine(graph_of(AMPERE.name))
        assert (other.name, other.available) == ("NVIDIA RTX A2000, 6 GiB", int(5.5 * GIB))
        assert problems(graph_of(AMPERE.name), place) == []


def test_a_run_sees_only_its_card(computer_with: Any) -> None:
    computer = computer_with(ADA, AMPERE)
    chosen = device.use(AMPERE.name.lower())
    assert os.environ["CUDA_VISIBLE_DEVICES"] == f"GPU-{AMPERE.uuid}"
    assert device.current().label == chosen.label == "NVIDIA RTX A2000, 6 GiB"
    assert chosen.gpu is not None
    assert chosen.gpu.index == 0  # the only one from now on
    (seen,) = torch_report.read_torch(computer.torch()).gpus
    assert seen.uuid == AMPERE.uuid
    assert chosen.free() == int(5.5 * GIB)


def test_auto_with_two_cards_settles_on_the_first_that_works(computer_with: Any) -> None:
    computer_with(PASCAL, ADA)
    assert device.use("auto").name == ADA.name
    assert os.environ["CUDA_VISIBLE_DEVICES"] == f"GPU-{ADA.uuid}"


def test_the_first_device_that_a_training_names_is_wanted() -> None:
    nodes: list[tuple[str, dict[str, Any]]] = [("lora", {"device": "x"}), ("train", {})]
    assert device.wanted_device(nodes) == "auto"
    assert device.wanted_device([*nodes, ("train", {"device": " CPU "})]) == "cpu"
    named = ("train", {"device": "NVIDIA L4"})
    assert device.wanted_device([*nodes, named, ("train", {"device": "cpu"})]) == "NVIDIA L4"


def test_a_run_on_the_cpu_sees_no_card_that_appears_later(computer_with: Any) -> None:
    """Its driver failed when torch was asked, and works again when the run starts."""
    computer = computer_with(ADA, supports=(12, 2))
    assert device.use("auto").kind == "cpu"
    computer.supports = (13, 0)
    assert torch_report.read_torch(computer.torch()).gpus == ()


def test_the_cpu_can_be_chosen(computer_with: Any, place: Path) -> None:
    computer = computer_with(ADA)
    assert problems(graph_of("CPU"), place) == []
    assert this_machine(graph_of("CPU")).device == "cpu"
    assert device.use("cpu").kind == "cpu"
    assert torch_report.read_torch(computer.torch()).gpus == ()


@pytest.mark.parametrize(
    ("visible", "name", "address"),
    [
        ("1,0", AMPERE.name, "1"),
        ("1", AMPERE.name, None),
        (f"GPU-{AMPERE.uuid}", AMPERE.name, None),
        (f"GPU-{AMPERE.uuid[:8]},GPU-{ADA.uuid[:8]}", AMPERE.name, f"GPU-{AMPERE.uuid[:8]}"),
        ("0,1", ADA.name, "0"),
    ],
)
def test_visible_devices_count(
    computer_with: Any,
    monkeypatch: pytest.MonkeyPatch,
    visible: str,
    name: str,
    address: str | None,
) -> None:
    """The first that the variable names is used, and the readings are those of that card."""
    computer_with(ADA, AMPERE, ask=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    chosen = device.use("auto")
    assert chosen.name == name
    card = {c.name: c for c in (ADA, AMPERE)}[name]
    assert chosen.free() == int((card.gib - card.used) * GIB)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == (address or visible)
    assert device.why_unused() is None  # hiding one of two is what the user wants


def test_two_of_the_same_kind_keep_their_names(
    computer_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = [Card("NVIDIA L4", 0x81, 22.0, used=9.0), Card("NVIDIA L4", 0x21, 22.0, used=3.0)]
    computer_with(*twins)
    assert list(device.names(torch_report.ask())) == ["NVIDIA L4 #2", "NVIDIA L4"]
    computer_with(*twins, nvml=False)
    assert list(device.names(torch_report.ask())) == ["NVIDIA L4 #2", "NVIDIA L4"]
    computer_with(*twins)
    assert device.current("NVIDIA L4 #2").free() == 13 * GIB
    assert device.current(f"GPU-{twins[1].uuid}").free() == 19 * GIB
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # only the one on the higher place
    assert device.choose(torch_report.ask()).name == "NVIDIA L4 #2"


def test_a_project_from_another_machine_opens_and_says_what_is_missing(
    computer_with: Any, place: Path
) -> None:
    computer_with(ADA)
    save_project(place / "p.studio", graph_of("NVIDIA H100"))
    graph = load_project(place / "p.studio")
    assert graph.node("train").settings["device"] == "NVIDIA H100"
    (found,) = problems(graph, place)
    assert (found.code, found.blocks) == ("no_such_device", True)
    assert found.sentence == "Train: this computer has no device “NVIDIA H100” that torch can use."
    assert found.hint == "Choose one of: auto, NVIDIA L4, cpu."
    assert this_machine(graph).name == "NVIDIA L4, 22 GiB"  # the estimate goes on
    (found,) = problems(graph_of("NVIDIA L4 #2"), place)  # a second one
    assert found.code == "no_such_device"
    with pytest.raises(StudioError, match="no device"):
        device.use("NVIDIA H100")


def test_a_chosen_card_that_torch_cannot_use(
    computer_with: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computer_with(ADA, PASCAL)
    (found,) = problems(graph_of(PASCAL.name), place)
    assert "GTX 1080 cannot be used: it has compute capability 6.1" in found.sentence
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    torch_report.ask()
    (found,) = problems(graph_of(ADA.name), place)
    assert (
        "NVIDIA L4 cannot be used: the environment variable CUDA_VISIBLE_DEVICES is “1”"
        in found.sentence
    )
    computer_with(ADA, build=CPU_BUILD)
    (found,) = problems(graph_of(ADA.name), place)
    assert (
        "NVIDIA L4 cannot be used: the installed torch 2.13.0+cpu is a build for CPUs"
        in found.sentence
    )
    assert found.blocks


def test_two_trainings_on_two_cards_are_refused(computer_with: Any, place: Path) -> None:
    computer_with(ADA, AMPERE)
    graph = graph_of(AMPERE.name)
    second = Node("train2", "train", {"device": ADA.name})
    wires = (Wire("data", "dataset", "train2", "dataset"), Wire("base", "model", "train2", "model"))
    both = Graph("p", (*graph.nodes, second), (*graph.wires, *wires))
    (found,) = problems(both, place)
    assert (found.node, found.code) == ("train2", "two_devices")


def test_the_setting_offers_the_cards(computer_with: Any, place: Path) -> None:
    computer_with(ADA, PASCAL, AMPERE)
    offered = TRAIN.choices(TRAIN.settings(), place, "device")
    assert offered == ("auto", ADA.name, AMPERE.name, "cpu")


def test_the_device_is_no_part_of_a_result(tmp_path: Path) -> None:
    """Projects and results from before the setting remain valid."""
    registry = load_registry()
    found = {
        step_fingerprint(TRAIN, resolved_settings(TRAIN, values, registry), {}, tmp_path)
        for values in ({}, {"device": "cpu"}, {"device": "NVIDIA L4"})
    }
    old = dict(resolved_settings(TRAIN, {}, registry))
    del old["device"]
    assert found == {step_fingerprint(TRAIN, old, {}, tmp_path)}


# ------------------------------------------------------------------ memory that is not reported


def test_a_card_without_readings_hides_no_other(computer_with: Any) -> None:
    computer_with(ADA, MIG, SPARK)
    assert [card.name for card in hardware.gpus()] == [MIG.name, SPARK.name, ADA.name]
    assert this_machine().available == 20 * GIB


def test_an_instance_of_a_card(computer_with: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    computer_with(MIG)
    first = device.current()
    assert first.name == "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
    assert first.free() == int(4.5 * GIB)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"MIG-{MIG.parts[1][1]}")
    torch_report.ask()
    machine._machine.cache_clear()
    assert this_machine().available == int(19.25 * GIB)
    assert this_machine().free_known


def test_an_instance_beside_another_card(computer_with: Any) -> None:
    computer_with(MIG, ADA)
    assert device.use("auto").name == "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == f"MIG-{MIG.parts[0][1]}"


def test_without_uuids_the_place_on_the_bus_counts(
    computer_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise NotSupported

    monkeypatch.setattr(Nvml, "nvmlDeviceGetUUID", refuse)
    computer_with(ADA, AMPERE)
    assert device.current().free() == 20 * GIB
    assert device.current(AMPERE.name).free() == int(5.5 * GIB)
    computer_with(MIG)
    assert device.current().free() is None  # all instances of the card are at its place


def test_memory_shared_with_the_cpu(computer_with: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    computer_with(SPARK)
    available = device.psutil.virtual_memory().available
    assert this_machine().available == pytest.approx(min(119 * GIB, available), rel=0.2)
    assert this_machine().free_known
    assert device.current().bfloat16


def test_without_nvml_the_memory_is_that_of_torch(computer_with: Any, place: Path) -> None:
    """No NVML, and no nvidia-smi either: nothing of the decision calls it."""
    computer_with(ADA, nvml=False)
    assert (this_machine().device, this_machine().available) == ("cuda", 22 * GIB)
    found = estimate_graph(graph_of(), load_registry(), place, Facts(this_machine()))
    assert found is not None
    assert any("does not report the free memory" in note for note in found.notes)
    assert problems(graph_of(), place) == []


# ------------------------------------------------------------------ bfloat16


def test_turing_emulates_bfloat16(computer_with: Any, place: Path) -> None:
    computer_with(TURING)
    assert (device.current().kind, device.current().bfloat16) == ("cuda", False)
    assert this_machine().bfloat16 is False
    (found,) = problems(graph_of(dtype="bfloat16"), place)
    assert (found.node, found.code, found.severity) == ("base", "bfloat16_emulated", "warning")
    assert "Tesla T4" in found.sentence
    assert "7.5" in found.sentence
    assert "  no   bfloat16 on the GPU" in doctor.as_text(doctor.gather())
    computer_with(ADA)
    assert problems(graph_of(dtype="bfloat16"), place) == []
    assert "  yes  bfloat16 on the GPU" in doctor.as_text(doctor.gather())


def test_a_cpu_without_units_for_bfloat16(
    computer_with: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen weights stay in bfloat16 and products are in float32; those of quantized weights are emulated."""
    for units, codes in ((False, ["bfloat16_emulated"]), (True, []), (None, [])):
        monkeypatch.setattr(hardware, "cpu_computes_bfloat16", lambda units=units: units)
        computer_with(build=CPU_BUILD, ask=False)
        assert problems(graph_of(dtype="bfloat16"), place) == []
        quantized = graph_of(dtype="bfloat16", quantization="nf4")
        assert [p.code for p in problems(quantized, place)] == codes
        assert this_machine().bfloat16 is bool(units)


def test_the_precision_of_the_chosen_card_counts(computer_with: Any, place: Path) -> None:
    computer_with(ADA, TURING)
    chosen = graph_of(TURING.name, dtype="bfloat16")
    assert [p.code for p in problems(chosen, place)] == ["bfloat16_emulated"]
    assert [p.code for p in problems(graph_of("cpu", dtype="float16"), place)] == [
        "dtype_unsupported"
    ]


def test_a_precision_that_another_device_chose_is_not_reused(
    computer_with: Any, place: Path
) -> None:
    """An old driver: the first run was on the CPU in float32. With a new one the GPU computes in bfloat16."""
    computer_with(ADA)
    graph = graph_of(dtype="auto")
    plan = compile_plan(graph, load_registry(), place).plan
    assert plan is not None
    (base,) = (step for step in plan.steps if step.type == "base_model")
    runs = [RunFolder.create(place / "runs", plan, graph) for _ in range(2)]
    here = SimpleNamespace(folder=runs[1], registry=load_registry())

    def kind(dtype: str) -> str:
        outputs = {"model": {"dtype": dtype}}
        write_record(runs[0], Record("base", "base_model", base.fingerprint, outputs, (), (), 1.0))
        return execute._hit(here, base).kind  # type: ignore[arg-type]

    assert [kind(d) for d in ("bfloat16", "float32", "float16")] == ["ready", "none", "none"]
    computer_with(TURING)
    assert [kind(d) for d in ("bfloat16", "float32", "float16")] == ["none", "none", "ready"]
    outputs = {"model": {"dtype": "bfloat16"}}
    write_record(runs[1], Record("base", "base_model", base.fingerprint, outputs, (), (), 1.0))
    assert kind("bfloat16") == "ready"  # a run that is resumed keeps its own


@pytest.mark.parametrize(
    ("capability", "archs", "runs"),
    [
        ((7, 5), CUDA_13, True),
        ((8, 9), CUDA_13, True),  # by the code for 8.0 or 8.6
        ((12, 1), CUDA_13, True),
        ((13, 0), CUDA_13, True),  # by PTX
        ((6, 1), CUDA_13, False),
        ((7, 0), CUDA_13, False),
        ((6, 1), ("sm_50", "sm_60", "sm_70"), True),
        ((13, 0), ("sm_90", "sm_120"), False),
        ((9, 1), ("sm_90a",), False),  # only its own GPU
        ((9, 0), ("sm_90a",), True),
        ((6, 1), (), True),  # a build that does not say
    ],
)
def test_code_for_a_card(capability: tuple[int, int], archs: tuple[str, ...], runs: bool) -> None:
    assert has_kernels(capability, archs) is runs


def test_the_times_of_earlier_runs_are_those_of_the_device(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs were read while the window did not know the device yet, and again for each that is chosen."""
    folder = SimpleNamespace(path=place, events_path=place / "rows.jsonl")
    found = Machine("NVIDIA L4, 22 GiB", "cuda", GIB, GIB, True, 0)
    monkeypatch.setattr(earlier, "_known", {})
    monkeypatch.setattr(earlier, "_read", lambda folder, registry, machine: (0, (machine.name,)))

    def paces(name: str) -> Any:
        machine = dataclasses.replace(found, name=name)
        return earlier._of_run(folder, load_registry(), machine, 0)  # type: ignore[arg-type]

    assert paces(device.CHECKING) == (device.CHECKING,)
    assert paces(found.name) == (found.name,)
    monkeypatch.setattr(earlier, "_read", None)
    assert paces(found.name) == (found.name,)  # from memory


# ------------------------------------------------------------------ asking torch


def test_torch_is_asked_once_and_again_after_a_change(
    computer_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    computer = computer_with(ADA, ask=False)
    assert torch_report.known() is None
    assert device.current().label == device.CHECKING
    assert device.why_unused() is None
    first = torch_report.ask()
    assert (torch_report.ask(), computer.asked) == (first, 1)
    torch_report._answers.clear()  # another process, which finds the file
    assert (torch_report.ask(), computer.asked) == (first, 1)
    computer.driver = "590.1"
    assert torch_report.ask() == first
    assert computer.asked == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    torch_report.ask()
    assert computer.asked == 3
    computer.build = Build("2.14.0+cu130", "13.0", None)
    torch_report.ask()
    assert computer.asked == 4
    torch_report.ask(fresh=True)
    assert computer.asked == 5


def test_a_failure_is_not_believed_for_long(
    computer_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    computer = computer_with(ADA, supports=(12, 2))
    torch_report.ask()
    assert computer.asked == 1
    later = torch_report.time.time() + torch_report.FAILED_FOR_S + 1
    monkeypatch.setattr(torch_report.time, "time", lambda: later)
    computer.supports = (13, 0)
    torch_report.ask()
    assert (computer.asked, device.current().kind) == (2, "cuda")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": 1}', "nonsense", '{"report": []}'])
def test_a_damaged_cache_costs_only_time(computer_with: Any, content: str) -> None:
    computer = computer_with(ADA)
    torch_report._answers.clear()
    torch_report._file().write_text(content, encoding="utf-8")
    assert torch_report.ask().gpus
    assert computer.asked == 2


def test_the_cache_of_a_damaged_report(computer_with: Any) -> None:
    computer = computer_with(ADA)
    for damage in (
        {"gpus": 3},
        {"gpus": [{}]},
        {"more": 1},
        {"archs": None},
        {"cuda": 13},
        {"reason": None},
    ):
        torch_report._answers.clear()
        stored = json.loads(torch_report._file().read_text(encoding="utf-8"))
        stored["report"].update(damage)
        torch_report._file().write_text(json.dumps(stored), encoding="utf-8")
        before = computer.asked
        assert torch_report.ask().gpus
        assert computer.asked == before + 1


TORCH = """
__version__ = "9.9+cu130"
class version: cuda, hip = "13.0", None
class backends: mps = None
class cpu: pass
class _Properties:
    name, total_memory, major, minor = "NVIDIA Test", 2**34, 7, 5
    uuid, is_integrated = "cafe0000-0000-4000-8000-000000000000", 0
    pci_domain_id, pci_bus_id, pci_device_id = 0, 9, 0
class cuda:
    get_arch_list = staticmethod(lambda: ["sm_75"])
    is_available = staticmethod(lambda: True)
    init = staticmethod(lambda: None)
    device_count = staticmethod(lambda: 1)
    get_device_properties = staticmethod(lambda index: _Properties)
def get_num_threads(): return 2
print("a library that prints")
"""


@pytest.fixture
def torch_in_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives child processes another torch."""
    folder = tmp_path / "site" / "torch"
    folder.mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))

    def put(text: str) -> None:
        (folder / "__init__.py").write_text(text, encoding="utf-8")

    return put


def test_a_process_asks_torch(torch_in_processes: Any) -> None:
    torch_in_processes(TORCH)
    report = torch_report._run()
    assert report is not None
    (gpu,) = report.gpus
    assert (gpu.name, gpu.capability, gpu.pci) == ("NVIDIA Test", (7, 5), "0000:09:00")
    assert gpu.kernels
    assert not gpu.bfloat16


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise OSError('libtorch_cuda.so: cannot open')", "libtorch_cuda.so: cannot open"),
        ("import os; os._exit(7)", "exited with code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "crashed (SIGILL)"),
        ("raise SystemExit('no')", "no"),
    ],
)
def test_a_torch_that_fails_is_named(
    torch_in_processes: Any, text: str, words: str, computer_with: Any, place: Path
) -> None:
    torch_in_processes(text)
    report = torch_report._run()
    assert report is not None
    assert words in report.error
    assert device.choose(report).kind == "cpu"


def test_the_installed_build_is_read_without_loading_it() -> None:
    torch_report.installed.cache_clear()
    build = torch_report.installed()
    assert build is not None
    assert build.version.startswith("2.")
    assert Path(build.place).name == "torch"


def test_doctor_shows_both_orders(computer_with: Any) -> None:
    computer_with(ADA, AMPERE, PASCAL)
    text = doctor.as_text(doctor.gather())
    assert "GPU on the bus at 0000:01:00: NVIDIA RTX A2000, 0.5 of 6.0 GiB used" in text
    assert (
        "sees NVIDIA GeForce GTX 1080, compute capability 6.1, not supported by this build" in text
    )
    assert "Training uses: NVIDIA L4, 22 GiB" in text
    assert "NVIDIA driver 580.95.05" in text
    assert "  yes  train on an NVIDIA GPU" in text


def test_doctor_reports_instances_and_missing_readings(computer_with: Any) -> None:
    computer_with(MIG)
    text = doctor.as_text(doctor.gather())
    assert "NVIDIA A100-SXM4-40GB, memory not reported" in text
    assert "with the instance NVIDIA A100-SXM4-40GB MIG 3g.20gb, 0.25 of 19.5 GiB used" in text
