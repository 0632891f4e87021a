import re

import pytest

from flows.cli import app
from flows.options import Common
from flows.reads import EXCEPT, READS, warn_of_unread
from flows.settings import build_ablation, build_config, load_config, load_yaml, parse_assignment
from nv_retriever.errors import InputError
from nv_retriever.plan.specifications import mining_spec


def test_unknown_keys_list_the_valid_ones():
    with pytest.raises(InputError, match=r"training\.epoch: expected one of .*epochs.*found the unknown key 'epoch'"):
        build_config({"training": {"epoch": 1}}, "config.yaml")
    with pytest.raises(InputError, match=r"expected one of .*dataset.*found the unknown key 'datasets'"):
        build_config({"datasets": {}}, "config.yaml")


def test_wrong_values_say_what_was_expected_and_found():
    with pytest.raises(InputError, match=r"training\.batch_size: .*greater than or equal to 1, found 0"):
        build_config({"training": {"batch_size": 0}}, "--set")
    with pytest.raises(InputError, match=r"seed: .*less than or equal to 2147483647, found 5000000000"):
        build_config({"seed": 5_000_000_000}, "--set")
    with pytest.raises(InputError, match=r"seeds\.0: .*greater than or equal to 0, found -1"):
        build_ablation(build_config({}, "--set"), {"seeds": [-1]})


def test_settings_that_contradict_each_other_are_told_in_one_sentence():
    with pytest.raises(InputError) as error:
        build_config({"training": {"guide": {}, "in_batch_negatives": False}}, "--set")
    found = "guide masks in-batch negatives, but in_batch_negatives is off"
    assert str(error.value) == f"--set: training: expected settings that go together, found {found}"
    with pytest.raises(InputError, match=r"^nvr ablate: expected settings that go together, found oracle knows hidden"):
        build_ablation(build_config({}, "--set"), {"methods": ["oracle"]})


@pytest.mark.parametrize("name", ["bm25", "cross-encoder:a/b", "vectors:folder"])
def test_what_only_teaches_is_no_student(name):
    with pytest.raises(InputError, match=rf"^student\.encoder\.model: expected an encoder .*, found '{name}'"):
        build_config({"student": {"encoder": {"model": name}}}, "--set")


def test_a_value_where_a_group_or_a_list_belongs_is_told_in_the_words_of_settings():
    with pytest.raises(InputError, match=r"teachers: expected a list, found 'bm25'"):
        build_config({"teachers": "bm25"}, "x.yaml")
    group = r"teachers\.0: expected a group of settings \(alias, bm25, encoder, name, only_retrieves\), found 'bm25'"
    with pytest.raises(InputError, match=group):
        build_config({"teachers": ["bm25"]}, "x.yaml")


def test_the_role_of_a_column_is_known_for_every_kind_of_source():
    with pytest.raises(InputError, match=r"dataset\.columns: expected the roles query, positive.*found quary"):
        build_config({"dataset": {"columns": {"quary": "q"}}}, "--set")


@pytest.mark.parametrize(
    ("tree", "layers"),
    [
        ({}, 2),
        ({"dataset": {"limit": 9, "source": "stdlib"}}, 2),
        ({"dataset": {"source": "some/folder"}}, None),
        ({"dataset": {"source": "some/folder"}, "student": {"layers": 2}}, 2),
        ({"student": {"encoder": {"query_prompt": "query: "}}}, 2),
        ({"student": {"dtype": "bfloat16"}}, 2),
        ({"student": {"encoder": {"model": "minilm"}, "layers": None}}, 2),
        ({"student": {"layers": 6}}, 6),
        ({"student": {"encoder": {"model": "some/folder"}}}, None),
    ],
)
def test_the_student_is_small_where_model_and_data_set_are_the_default_ones(tree, layers):
    config = build_config(tree, "--set")
    assert config.untrained.layers == layers
    again = build_config(config.model_dump(mode="json"), "a form that says everything")
    assert again.untrained == config.untrained


def test_a_form_that_says_every_default_trains_the_whole_model_on_the_data_set_that_is_put_in():
    form = build_config({}, "form").model_dump(mode="json")
    form["dataset"]["source"] = "some/folder"
    assert build_config(form, "form").untrained.layers is None


@pytest.mark.parametrize("text", ["training.epochs", "=3", "a=[1"])
def test_wrong_assignments(text):
    with pytest.raises(InputError):
        parse_assignment(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("student.encoder.query_prompt=query: ", "query: "),
        ("teachers.0.encoder.document_prompt=search_document: # ", "search_document: # "),
        ("student.encoder.query_prompt='query: '", "query: "),
        ("dataset.document_template={title}: {text}", "{title}: {text}"),
        ("dataset.document_template={text}", "{text}"),
        ("dataset.source=2024", "2024"),
        ("student.encoder.query_prompt=null", None),
        ("dataset.columns={query: question}", {"query": "question"}),
        ("dataset.columns.query=question", "question"),
        ("dataset.limit=7", 7),
        ("mining.shortfall=relax ", "relax"),
    ],
)
def test_a_text_is_taken_as_it_stands_all_else_is_yaml(text, value):
    assert parse_assignment(text)[1] == value


def test_yaml_mistakes_name_the_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("seed: 1\ntraining: [\n")
    with pytest.raises(InputError, match=r"config\.yaml line 3"):
        load_yaml(path)
    with pytest.raises(InputError, match="expected a configuration file"):
        load_yaml(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    "tree",
    [
        {"search": {"index": "flat()", "min_recall": 2}},
        {"search": {"min_recall": 0.99}},
        {"search": {"index": "annoy"}},
        {"audit": {"target_reduction": 0.9}},
        {"mining": {"min_score": float("inf")}},
        {"dataset": {"limit": True}},
        {"audit": {"rules": ["foo"]}},
    ],
)
def test_settings_that_mean_nothing_are_errors(tree):
    with pytest.raises(InputError):
        build_config(tree, "--set")


def test_an_index_has_one_name():
    indexes = [build_config({"search": {"index": text}}, "--set").search.index for text in ("exact()", "ivf( nprobe=32 )")]
    assert indexes == ["exact", "ivf(nlist=1024, nprobe=32)"]


@pytest.mark.parametrize("audit", [{"rule": "topk"}, {"selection": "top(2)"}, {"seed": 1}])
def test_what_an_audit_takes_from_the_run_cannot_be_set_twice(audit):
    with pytest.raises(InputError, match=r"audit\.\w+: expected nothing: .* says, found"):
        build_config({"audit": audit}, "--set")


@pytest.mark.parametrize(
    ("name", "settings", "path"),
    [
        ("bm25", {"encoder": {"query_max_length": 32}}, "encoder.query_max_length"),
        ("bm25", {"encoder": {"normalize": True}}, "encoder.normalize"),
        ("cross-encoder:m", {"encoder": {"pooling": "cls"}}, "encoder.pooling"),
        ("endpoint:http://h/v1#m", {"encoder": {"document_max_length": 64}}, "encoder.document_max_length"),
        ("vectors:folder", {"encoder": {"query_prompt": "q: "}}, "encoder.query_prompt"),
        ("minilm", {"bm25": {"k1": 1.2}}, "bm25.k1"),
        ("minilm", {"encoder": {"model": "intfloat/e5-base-v2"}}, "encoder.model"),
    ],
)
def test_a_setting_that_a_teacher_does_not_read_is_an_error(name, settings, path):
    with pytest.raises(InputError, match=rf"teachers\.1\.{path}: expected nothing: the teacher '{name}' does not read it"):
        build_config({"teachers": [{"name": "minilm"}, {"name": name, **settings}]}, "--set")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bm25", {"bm25": {"k1": 1.2}, "encoder": {"model": "minilm", "precision": "auto"}}),
        ("cross-encoder:m", {"encoder": {"document_max_length": 64, "precision": "bf16"}}),
        ("endpoint:http://h/v1#m", {"encoder": {"query_prompt": "q: ", "normalize": False}}),
        ("vectors:folder", {"encoder": {"normalize": False}}),
        ("some/model", {"encoder": {"model": "some/model", "pooling": "cls", "revision": "main"}}),
    ],
)
def test_settings_that_a_teacher_reads_and_defaults_are_fine(name, settings):
    config = build_config({"teachers": [{"name": "minilm"}, {"name": name, **settings}]}, "--set")
    assert config.teachers[1].unread() == {}


@pytest.mark.parametrize(
    ("command", "text", "place"),
    [
        ("evaluate", "student.layers=1", "student.layers"),
        ("evaluate", "student={encoder: {model: minilm}}", "student.encoder.model"),
        ("evaluate", "split=dev", "split"),
        ("evaluate", "evaluation.resamples=500", "evaluation.resamples"),
        ("mine", "training.epochs=2", "training.epochs"),
        ("train", "evaluation.depth=10", "evaluation.depth"),
        ("audit", "mining.anchor=min", "mining.anchor"),
        ("run", "audit.max_rate=0.1", "audit.max_rate"),
        ("plan", "ablation.seeds=[1]", "ablation.seeds"),
        ("ablate", "mining.ensemble=cross-sample", "mining.ensemble"),
    ],
)
def test_what_a_command_does_not_read_is_warned_about(command, text, place, tmp_path, caplog):
    warn_of_unread(command, Common(set_=[text]))
    assert [message.split("; ")[0] for message in caplog.messages] == [
        f"--set {place} has no effect: `nvr {command}` does not read it"
    ]
    caplog.clear()
    shared = tmp_path / "shared.yaml"  # a file is read by all commands
    shared.write_text(
        "ablation: {seeds: [1]}\nsplit: dev\nstudent: {layers: 1}\ntraining: {epochs: 2}\naudit: {max_rate: 0.1}\n"
    )
    warn_of_unread(command, Common(config=shared))
    assert not caplog.messages
    assert Common(config=shared).settings().student.layers == 1


def test_what_a_command_reads_is_not_warned_about(caplog):
    warn_of_unread("evaluate", Common(set_=["student.encoder={query_prompt: 'q: '}", "evaluation.split=dev"]))
    warn_of_unread("ablate", Common(set_=["ablation.seeds=[1]", "audit.min_queries=5", "mining.anchor=min"]))
    warn_of_unread("mine", Common(set_=["teachers.0.encoder.precision=fp32", "unknown.key=1"]))  # whose error lists the keys
    assert not caplog.messages
    names = {command.callback.__name__ for command in app.registered_commands}
    assert READS.keys() == names and EXCEPT.keys() < names


def test_a_common_option_that_a_command_does_not_read_is_warned_about(caplog):
    warn_of_unread("evaluate", Common(split="dev", limit=3, student="some/model", dataset="d"))
    assert caplog.messages == ["--student has no effect: `nvr evaluate` does not read it; --model says what is measured"]


@pytest.mark.parametrize("study", [3, None, {"pipeline": {"seed": 1}}])
def test_a_study_is_a_group_without_the_pipeline(study):
    with pytest.raises(InputError, match=r"nvr ablate: ablation.*expected .*audited, baseline"):
        build_ablation(build_config({}, "--set"), study)


def test_a_cluster_wants_a_runner():
    with pytest.raises(InputError, match=r"runtime\.cluster: expected runner dask or ray, found runner local"):
        build_config({"runtime": {"cluster": "tcp://h:8786"}}, "--set")
    build_config({"runtime": {"cluster": "tcp://h:8786", "runner": "dask"}}, "--set")
    build_config({"runtime": {"processes": 4, "parts": 2}}, "--set")  # of a file that is used without its cluster for once


@pytest.mark.parametrize("beside", ["training.max_steps=3", "mining.selection=top(2)", None])
def test_what_the_stages_of_a_blend_say_is_said_once(beside, tmp_path):
    path = tmp_path / "blend.yaml"
    path.write_text("blend: {sources: [{name: a, source: a.jsonl}], stages: [{name: one}]}\n")
    named = Common(config=path, set_=[beside]) if beside else Common(config=path, negatives=2)
    with pytest.raises(InputError, match=r"expected nothing beside `blend`: blend\.stages\.N\.\w+ says it, found"):
        named.settings()
    Common(config=path).settings()


def test_named_options_keep_the_other_settings_of_what_they_name(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("student: {layers: 1}\nteachers: [{name: minilm, encoder: {precision: fp32}}, {name: bm25}]\n")
    both = Common(config=path, student="minilm", teacher=["minilm"], set_=["student.encoder.query_prompt='q: '"]).settings()
    assert (both.student.layers, both.student.encoder.model) == (1, "minilm")
    assert both.student.encoder.query_prompt == "q: "
    assert [teacher.name for teacher in both.teachers] == ["minilm"] and both.teachers[0].encoder.precision == "fp32"
    first = Common(set_=["teachers.0.encoder.precision=fp32"]).settings()
    assert len(first.teachers) == 1 and first.teachers[0].encoder.precision == "fp32"
    named = Common(teacher=["minilm"], set_=["teachers.0.encoder.precision=bf16"]).settings()
    assert named.teachers[0].encoder.precision == "bf16"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "seed: 1\nmining: {rule: topk}\nmining: {seed: 2}\n",
            r"a\.yaml line 3: expected YAML, found 'mining' a second time",
        ),
        ("extends: a.yaml\n", "a file that does not come back to itself"),
        ("seed: \x00\n", r"a\.yaml: expected YAML, found unacceptable character #x0000: [^\n]*$"),
        ("extends: .\n", "expected a configuration file, found is a directory"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_an_error(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(tmp_path / "a.yaml")


def test_a_rule_without_a_meaning_for_a_teacher_s_scores_is_refused_before_anything_runs():
    with pytest.raises(InputError, match=r"rule topk-abs\(0.7\): expected scores of kind cosine, found bm25 scores of bm25"):
        mining_spec(build_config({"teachers": [{"name": "bm25"}], "mining": {"rule": "topk-abs(0.7)"}}, "--set"))


def test_several_teachers_need_an_ensemble_before_anything_runs():
    with pytest.raises(
        InputError, match=r"dedup for several teachers, none for one, found none with 2.*; --set mining\.ens"
    ):
        mining_spec(build_config({"teachers": [{"name": "bm25"}, {"name": "minilm"}]}, "--set"))


@pytest.mark.parametrize("names", [("bm25", "bm25"), ("./a/model", "minilm", "./b/model/")])
def test_teachers_that_no_table_could_tell_apart_are_refused(names):
    with pytest.raises(InputError, match=r"teachers: expected every name once, found (bm25|model) more than once") as error:
        build_config({"teachers": [{"name": name} for name in names]}, "test")
    path = re.search(r"--set (teachers\.\d\.alias)=NAME", str(error.value))
    assert path is not None
    settings = Common(teacher=list(names), set_=[f"{path[1]}=other"]).settings()
    assert "other" in [teacher.label for teacher in settings.teachers]


def test_an_alias_is_a_name():
    with pytest.raises(InputError, match="alias"):
        build_config({"teachers": [{"name": "bm25", "alias": " "}]}, "test")


WRONG_YAML = {
    "no date": ("seed: 2024-99-99", "month must be in 1..12"),
    "no number": (f"seed: {'9' * 5000}", "Exceeds the limit"),
    "a tower": (f"seed: {'[' * 3000}", "recursion"),
    "a group in itself": ("dataset: &a {source: *a}", "more than 100,000 values"),
    "lists of lists": (
        "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)) + "dataset: *a39",
        "more than 100,000 values",
    ),
    "an object": ("seed: !!python/object/apply:os.system [exit]", "could not determine a constructor"),
}


@pytest.mark.parametrize("name", WRONG_YAML)
def test_a_file_that_python_or_the_memory_cannot_hold_is_one_line(tmp_path, name):
    text, message = WRONG_YAML[name]
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"x\.yaml.*: expected YAML, found .*{message}"):
        load_config(tmp_path / "x.yaml")
    if "\n" not in text:
        with pytest.raises(InputError, match=rf"--set .*: expected a value in YAML, found .*{message}"):
            parse_assignment(f"group={text.partition(': ')[2] if 'dataset' not in text else '&a [*a]'}")


def test_aliases_of_a_few_settings_are_fine(tmp_path):
    (tmp_path / "x.yaml").write_text("student: &s {layers: 2}\ntraining: {epochs: 1}\nother: {<<: *s, pool_prompt: true}\n")
    assert load_config(tmp_path / "x.yaml")["other"] == {"layers": 2, "pool_prompt": True}
