"""DiffGDA in the loop: it moves the source towards the target, leaks no label, and does nothing where asked to."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet

from facetrail.eval.evidence import read_result
from facetrail.eval.experiments.graph_plan import GraphExperiment, read_graph_experiment
from facetrail.eval.experiments.graph_result import PartScores, write_graph_result
from facetrail.eval.graph_data import KNOWN
from facetrail.models.errors import InvalidInput
from facetrail.models.graph.graph_data import GraphData
from facetrail.models.graph.graph_files import read_graph, write_graph
from facetrail.training.graph import diffgda_experiment
from facetrail.training.graph.adapt import Fitted
from facetrail.training.graph.command import train
from facetrail.training.graph.diffgda import Evolution, evolve
from facetrail.training.graph.diffgda_networks import DiffgdaRecipe, evolution_name, networks_name
from facetrail.training.graph.diffgda_probe import probe_auc
from facetrail.training.graph.diffgda_ratio import DomainSide, domain_auc, fit_ratio
from facetrail.training.graph.methods import DomainAdapter, Shared, method_recipe

Pair = tuple[GraphData, GraphData]
SMALL = ("dim=8", "n_layers=1", "k_source=1", "k_target=1", "epochs=6", "trace_every=3", "checkpoint_every=6")
QUICK = ("features=raw", "n_nodes=10", "share=0.5", "network_steps=4", "network_batch=2", "reverse_steps=3")


@pytest.fixture(autouse=True)
def _few_subgraphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facetrail.training.graph.diffgda.N_SUBGRAPHS", 16)
    monkeypatch.setattr("facetrail.training.graph.diffgda_ratio._STEPS", 40)


def fitted(pair: Pair, *more: str, method: str = "diffgda", **options: Any) -> DomainAdapter:
    quick = QUICK if method == "diffgda" else ()
    adapter = DomainAdapter(method_recipe(method, (*SMALL, *quick, *more)))
    adapter.fit(*pair, **options)
    return adapter


def recipe(*more: str) -> DiffgdaRecipe:
    made = method_recipe("diffgda", (*QUICK, *more))
    assert isinstance(made, DiffgdaRecipe)
    return made


def equal(a: Fitted, b: Fitted) -> bool:
    weights = zip((a.final, a.average), (b.final, b.average), strict=True)
    return all(torch.equal(one[name], other[name]) for one, other in weights for name in one)


def same_graph(a: GraphData, b: GraphData) -> bool:
    return np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y) and (a.adjacency != b.adjacency).nnz == 0


def test_the_defaults_are_the_declared_ones():
    made = method_recipe("diffgda")
    assert isinstance(made, DiffgdaRecipe)
    assert (made.svd_dim, made.label_scale, made.n_nodes, made.share) == (64, 3.0, 64, 0.2)
    assert (made.start, made.reverse_steps, made.guidance) == (0.2, 50, 1.0)
    assert (made.network_steps, made.network_batch, made.weight) == (1000, 8, 0.1)
    assert (made.n_layers, made.dim, made.k_source, made.k_target, made.epochs) == (2, 128, 0, 10, 100)
    with pytest.raises(InvalidInput, match="share"):
        method_recipe("diffgda", ("share=1.5",))


def test_no_target_label_reaches_the_fit_and_a_seed_fixes_the_graph(pair: Pair):
    source, target = pair
    permuted = replace(target, y=np.random.default_rng(0).permutation(target.y))
    fits = [fitted((source, t)) for t in (target, permuted, target.unlabelled())]
    graphs = [one.evolution.evolved.graph for one in fits if one.evolution is not None]
    assert all(equal(fits[0].fitted, one.fitted) for one in fits[1:])
    assert all(same_graph(graphs[0], one) for one in graphs[1:])
    assert not same_graph(graphs[0], source)
    assert not same_graph(graphs[0], evolve(source, target, recipe("seed=1")).evolved.graph)


@pytest.mark.parametrize("nothing", ["share=0", "replacement=none"])
def test_without_replacement_the_classifier_is_the_baselines_bit_for_bit(pair: Pair, nothing: str):
    found = fitted(pair, nothing)
    assert found.evolution is not None
    assert found.evolution.evolved.graph is pair[0]
    assert not found.evolution.evolved.replaced.any()
    assert equal(found.fitted, fitted(pair, "weight=0.1", method="mmd").fitted)
    assert equal(fitted(pair, nothing, "weight=0").fitted, fitted(pair, method="source-only").fitted)
    assert not equal(found.fitted, fitted(pair).fitted)


def test_the_control_replaces_the_same_nodes_by_others(pair: Pair):
    source, target = pair
    carried, mixed = (evolve(source, target, recipe(f"replacement={how}")) for how in ("diffusion", "random"))
    assert np.array_equal(carried.nodes, mixed.nodes)
    assert np.array_equal(carried.evolved.replaced, mixed.evolved.replaced)
    graph, replaced = mixed.evolved.graph, mixed.evolved.replaced
    rows = {row.tobytes(): label for row, label in zip(source.x, source.y, strict=True)}
    assert all(rows[row.tobytes()] == label for row, label in zip(graph.x, graph.y, strict=True))
    assert (graph.x != source.x).any(axis=1)[replaced].mean() > 0.8
    assert (graph.adjacency != source.adjacency).nnz == 0


def test_graphs_that_are_alike_are_left_alone(pair: Pair):
    source, _ = pair
    with pytest.warns(UserWarning, match="graphs are alike"):
        found = evolve(source, replace(source, y=None), recipe())
    assert found.evolved.graph is source
    assert "graphs are alike" in found.report.skipped


def test_the_ratio_is_that_of_the_densities(monkeypatch: pytest.MonkeyPatch):
    """Two Gaussians in one dimension, no edges: log r = μ x - μ² / 2."""
    monkeypatch.setattr("facetrail.training.graph.diffgda_ratio._STEPS", 200)
    generator, mu = torch.Generator().manual_seed(0), 1.0
    held_out = torch.rand(60, 20, generator=generator) < 0.2
    no_edges = -torch.ones(60, 20, 20)
    z = [torch.randn(60, 20, 1, generator=generator) + shift for shift in (0.0, mu)]
    found = fit_ratio(*(DomainSide(side, no_edges, held_out) for side in z), seed=0)
    x = torch.linspace(-1, 2, 20)
    wanted = (mu * x - mu**2 / 2).exp()
    assert torch.allclose(found.of(x[None, :, None], no_edges[:1])[0].log(), wanted.log(), atol=0.35)
    assert found.auc == pytest.approx(0.760, abs=0.05)  # Φ(μ / √2)
    far = found.of(torch.tensor([[[-9.0], [9.0]]]), no_edges[:1, :2, :2])
    assert float(far.min()) >= 0.1 - 1e-6
    assert float(far.max()) <= 10
    assert domain_auc(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0])) == 1


def test_networks_are_shared_by_fits_whose_networks_are_equal(pair: Pair, tmp_path: Path):
    assert networks_name(recipe()) == networks_name(recipe("guidance=2", "weight=0", "share=0.1"))
    assert networks_name(recipe()) != networks_name(recipe("seed=1"))
    first = fitted(pair, "guidance=0", shared=Shared(tmp_path))
    (folder,) = tmp_path.iterdir()
    stamp = {file: file.stat().st_mtime_ns for file in folder.glob("checkpoints/*/*")}
    second = fitted(pair, shared=Shared(tmp_path))
    assert {file: file.stat().st_mtime_ns for file in folder.glob("checkpoints/*/*")} == stamp
    alone = fitted(pair)
    assert second.evolution is not None
    assert alone.evolution is not None
    assert first.evolution is not None
    assert same_graph(second.evolution.evolved.graph, alone.evolution.evolved.graph)
    assert not same_graph(second.evolution.evolved.graph, first.evolution.evolved.graph)


def test_one_evolution_serves_every_classifier_and_changes_none(pair: Pair, tmp_path: Path):
    """Arms that differ in the loss or in k alone; the coordinates are shared too."""
    shared, svd = Shared(tmp_path), ("features=svd", "svd_dim=4")
    first = fitted(pair, *svd, "weight=0", shared=shared)
    second = fitted(pair, *svd, "k_source=2", shared=shared)
    assert second.evolution is first.evolution
    assert equal(second.fitted, fitted(pair, *svd, "k_source=2").fitted)
    assert not equal(second.fitted, first.fitted)
    assert (len(shared.coordinates), len(shared.evolutions)) == (1, 1)
    others = ("guidance=2", "replacement=random", "share=0.3", "reverse_steps=4", "seed=1", "label_scale=2")
    names = {evolution_name(recipe(*more)) for more in ((), *((one,) for one in others))}
    assert len(names) == len(others) + 1, "whatever changes the graph makes another evolution"


def moved(found: Evolution, pair: Pair) -> float:
    """By how much the replaced nodes went the way from the source's mean to the target's, as a share of it."""
    way = pair[1].x.mean(axis=0) - pair[0].x.mean(axis=0)
    went = (found.evolved.graph.x - pair[0].x)[found.evolved.replaced].mean(axis=0)
    return float(went @ way / (way @ way))


def carried(pair: Pair, guidance: float, steps: int) -> Evolution:
    options = ("features=raw", "n_nodes=20", "share=0.5", "reverse_steps=25", f"network_steps={steps}")
    made = method_recipe("diffgda", (*options, f"guidance={guidance}"))
    assert isinstance(made, DiffgdaRecipe)
    return evolve(*pair, made)


def test_guidance_moves_the_source_towards_the_target(pairs: list[Pair], tmp_path: Path):
    """Seen at 200 steps and 160 subgraphs of 30: 0.07, 0.37 and 0.56 of the way at w = 0, 1 and 2."""
    found = [carried(pairs[0], guidance, 60) for guidance in (0.0, 2.0)]
    ways = [moved(one, pairs[0]) for one in found]
    assert ways[1] > ways[0] + 0.1
    reports = [one.report for one in found]
    assert all(report.domain_auc is not None and report.domain_auc > 0.9 for report in reports)
    assert all(report.label_kept is not None and report.label_kept > 0.8 for report in reports)
    assert all(report.edge_overlap is not None and 0.3 < report.edge_overlap < 1 for report in reports)
    assert all(report.start_correlation is not None and report.start_correlation <= 0.9 for report in reports)


@pytest.mark.slow
def test_an_independent_probe_tells_the_guided_source_less_well(pairs: list[Pair], monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr("facetrail.training.graph.diffgda.N_SUBGRAPHS", 160)
    source, target = pairs[0]
    aucs = []
    for guidance in (0.0, 2.0):
        found = carried((source, target), guidance, 300)
        aucs.append(probe_auc(source, found.evolved.graph, found.nodes, target, np.random.default_rng(0)))
    assert aucs[1] < aucs[0] - 0.03


def test_the_probe_is_deceived_by_the_true_shift_alone(pairs: list[Pair]):
    pytest.importorskip("sklearn")
    source, target = pairs[0]
    nodes = np.arange(100).reshape(5, 20)
    shift = target.x.mean(axis=0) - source.x.mean(axis=0)

    def auc(moved: float) -> float:
        return probe_auc(source, replace(source, x=source.x + moved * shift), nodes, target, np.random.default_rng(0))

    assert auc(0) > 0.85
    assert auc(0) > auc(0.5) + 0.05 > auc(1) + 0.1
    assert auc(1) < 0.7
    with pytest.raises(InvalidInput, match="lower the share"):
        probe_auc(source, source, np.arange(300).reshape(15, 20), target, np.random.default_rng(0))


def test_the_command_reports_the_evolution_and_keeps_the_graph(pair: Pair, tmp_path: Path):
    for name, graph in zip(("s", "t"), pair, strict=True):
        write_graph(tmp_path / f"{name}.npz", graph)
    files, out = (tmp_path / "s.npz", tmp_path / "t.npz"), tmp_path / "run"
    summary = train(*files, out, method="diffgda", overrides=[*SMALL, *QUICK], keep_graph=True, device="cpu")
    report = json.loads((out / "evolution.json").read_text())
    assert report == summary["evolution"]
    assert {"domain_auc", "evolved_auc", "clipped_share", "label_kept", "edge_overlap", "seconds"} <= report.keys()
    assert report["seconds"].keys() == {"ratio", "networks", "sampling"}
    nodes = parquet.read_table(out / "evolved-nodes.parquet").to_pylist()
    assert sum(row["replaced"] for row in nodes) == report["n_replaced"] == 30
    assert read_graph(out / "evolved.npz").n_edges == pair[0].n_edges
    assert 0 < summary["micro_f1"] <= 1
    assert summary["accuracy_at_coverage"]["100%"] == pytest.approx(summary["micro_f1"], abs=1e-4)
    assert 0 <= summary["ece"] <= 1
    assert summary["nsd_before"] > 0
    write_graph(files[1], pair[1].unlabelled())
    again = train(*files, tmp_path / "bare", method="mmd", overrides=SMALL, device="cpu")
    assert not {"micro_f1", "ece", "evolution"} & again.keys()
    with pytest.raises(InvalidInput, match="no graph to keep"):
        train(*files, tmp_path / "other", method="mmd", overrides=SMALL, keep_graph=True, device="cpu")


def few(plan: GraphExperiment) -> GraphExperiment:
    arms = ("no diffusion, MMD", "w=0, MMD", "w=1", "w=1, MMD", "random nodes, MMD")
    demands = plan.parts["citation"].demands
    part = plan.parts["citation"].model_copy(
        update={"arms": arms, "compared": (("w=1, MMD", "no diffusion, MMD"),), "demands": demands}
    )
    return plan.model_copy(update={"parts": {"citation": part}})


def test_the_declared_experiment_is_whole():
    plan = read_graph_experiment("diffgda")
    assert [(len(part.arms), len(part.tasks), len(part.seeds)) for part in plan.parts.values()] == [
        (13, 6, 3),
        (11, 6, 3),
    ]
    assert all(graph in KNOWN for graphs in plan.tasks.values() for graph in graphs)
    for part in plan.parts.values():
        names = set()
        for arm in part.arms:
            planned = plan.arms[arm]
            values = {**plan.set, **planned.set, **part.set.get(planned.method, {})}
            made = method_recipe(planned.method, tuple(f"{key}={value}" for key, value in values.items()))
            assert (made.features, made.svd_dim, made.epochs, made.k_target) == ("svd", 64, 100, 10)
            if isinstance(made, DiffgdaRecipe):
                names.add((networks_name(made), made.n_nodes))
        assert len(names) == 1, "every arm on the same networks"
    changed = plan.model_dump()
    changed["parts"]["airports"] |= {"tasks": plan.parts["citation"].tasks, "published": {}}
    with pytest.raises(ValueError, match="must set the same values"):
        GraphExperiment.model_validate(changed)


def test_a_small_run_writes_evidence_and_pictures(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("sklearn")
    plan = few(read_graph_experiment("diffgda"))
    monkeypatch.setattr(diffgda_experiment, "read_graph_experiment", lambda _: plan)
    probed: list[np.ndarray] = []

    def counted(before: GraphData, after: GraphData, *more: Any) -> float:
        probed.append(after.x)
        return probe_auc(before, after, *more)

    monkeypatch.setattr(diffgda_experiment, "probe_auc", counted)
    out = tmp_path / "run"
    diffgda_experiment.run(data_folder, out, smoke=True)
    written = read_result(out / "diffgda.json")
    for arm, measure in written.arms.items():
        assert 0 < measure.measures["probe AUC"][0] <= 1
        assert (measure.measures["label kept"][0] == 1) == (arm == "no diffusion, MMD")
    rows = {(row.a, row.b, row.measure): row for row in written.comparisons if row.demand}
    assert ("w=0, MMD", "w=1, MMD", "probe AUC") in rows
    pictures = {file.name for file in (out / "pictures").iterdir()}
    assert pictures == {f"citation_{name}.png" for name in ("arms", "tasks", "likeness")}
    assert len(list((out / "networks").glob("*/*"))) == 1, "arms share their networks"
    assert len(probed) == 4, "each evolved graph is probed once"


@pytest.mark.parametrize(("guided", "met"), [(0.88, True), (0.95, False)])
def test_demands_on_the_probe_are_judged(tmp_path: Path, guided: float, met: bool):
    plan = few(read_graph_experiment("diffgda"))
    part = plan.parts["citation"]
    moments = {moment: {"micro": 0.7, "macro": 0.7} for moment in ("final", "ema", "infomax", "best")}
    units = {}
    for arm in part.arms:
        auc = guided if arm == "w=1, MMD" else 0.94
        for task in part.tasks:
            for seed in part.seeds:
                evolved = {"probe_auc": auc, "label_kept": 0.9, "edge_overlap": 0.6}
                units[arm, task, seed] = {**moments, "evolved": evolved, "epochs": 100, "cpu_seconds_per_epoch": 0.1}
    path = write_graph_result(plan, "citation", PartScores(part, part.seeds, units), command="x", folder=tmp_path)
    found = {row.measure: row.met for row in read_result(path).comparisons if row.demand and "AUC" in row.measure}
    assert found == {"A→D probe AUC": met, "C→D probe AUC": met, "probe AUC": met}
