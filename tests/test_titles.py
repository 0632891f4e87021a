"""What the rows of a plan are called: every row differently, embeddings by whose they are and of what."""

from flows.settings import build_config
from nv_retriever.plan.iteration import plan_rounds
from nv_retriever.plan.pipeline import ordered, plan_run
from nv_retriever.plan.specifications import audit_spec
from nv_retriever.plan.titles import title
from nv_retriever.training.config import StudentConfig


def test_every_row_of_a_plan_says_whose_it_is_and_of_which_data_set(small_beir):
    config = build_config(
        {
            "dataset": {"source": str(small_beir)},
            "teachers": [{"name": "minilm"}, {"name": "bm25"}],
            "mining": {"ensemble": "intra-sample-dedup"},
        },
        "test",
    )
    specs = plan_run(config).specs()
    titles = [(spec.stage, title(spec)) for spec in specs]
    assert len(set(titles)) == len(titles)
    assert [text for stage, text in titles if stage == "embed"] == [
        "animals documents by minilm",
        "animals train queries by minilm",
        "animals documents by minilm in fp32",
        "animals test queries by minilm in fp32",
        "animals documents by trained student",
        "animals test queries by trained student",
    ]
    assert ("index", "animals train by bm25") in titles and ("evaluate", "trained on animals test") in titles
    assert title(audit_spec(config)) == "animals train"
    small = ordered([plan_run(config.model_copy(update={"student": StudentConfig(layers=2)})).base])
    assert "animals documents by untrained student" in map(title, small)


def test_the_table_of_a_second_round_is_the_first_student_s(small_beir):
    config = build_config({"dataset": {"source": str(small_beir)}}, "test")
    titles = [title(spec) for spec in ordered(plan_rounds(config, 2))]
    assert "animals train by student of round 1" in titles and "animals documents by trained student" in titles
