import pytest

from eventstacks import __version__, documents, rendering
from eventstacks.errors import ToolError

MACROS = "{% macro bus(id) %}\n  {{ id }}:\n    Type: AWS::Events::EventBus\n{% endmacro %}\n"
GOOD = (
    "{% import 'macros/m.j2' as m %}\nDescription: {{ name }} {{ version }}\n"
    "Resources:\n{{ m.bus('A') }}\n\n\n{{ m.bus('B') }}"
)


@pytest.fixture
def templates(tmp_path):
    (tmp_path / "templates" / "macros").mkdir(parents=True)
    (tmp_path / "templates" / "functions").mkdir()
    (tmp_path / "templates" / "macros" / "m.j2").write_text(MACROS)
    (tmp_path / "templates" / "good.yaml.j2").write_text(GOOD)
    return tmp_path / "templates"


def write(templates, text, name="bad"):
    (templates / f"{name}.yaml.j2").write_text(text, encoding="utf-8", errors="surrogateescape")


def test_the_result_reads_as_if_written_by_hand(templates):
    made = rendering.render("good", templates)
    assert made.text == (
        f"Description: good {__version__}\n\nResources:\n  A:\n    Type: AWS::Events::EventBus\n\n"
        "  B:\n    Type: AWS::Events::EventBus\n"
    )
    assert list(made.document["Resources"]) == ["A", "B"]


@pytest.mark.parametrize(
    "head", ["|", ">-", "|2-", "|+1", "| # the code", "!Sub |", "&code |", "!Sub &code |-", "  |"]
)
def test_a_block_scalar_keeps_its_blank_lines_however_it_begins(templates, head):
    write(templates, f"Resources:\n  A:\n    X: {head}\n      one\n\n\n      two\n    Y: 1\n")
    made = rendering.render("bad", templates)
    assert f"X: {head}\n      one\n\n\n      two\n    Y: 1\n" in made.text
    assert made.document["Resources"]["A"]["Y"] == 1


def test_comments_stay_with_what_they_are_about_and_code_keeps_its_blank_lines(templates):
    (templates / "functions" / "f.py").write_text("import os\n\n\ndef f():\n    pass\n")
    write(
        templates,
        "Resources:\n  # First.\n  A:\n    # Why.\n    Type: T\n"
        "    X: |\n{{ function('f.py') | indent(10, first=true) }}\n"
        "\n\n  # Second.\n  B:\n    Type: T\n\n",
    )
    assert rendering.render("bad", templates).text == (
        "Resources:\n  # First.\n  A:\n    # Why.\n    Type: T\n"
        "    X: |\n          import os\n\n\n          def f():\n              pass\n"
        "\n  # Second.\n  B:\n    Type: T\n"
    )


@pytest.mark.usefixtures("usual_depth")
@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("A: 1\nB: {{ naem }}\n", "bad.yaml.j2:2", "'naem' is undefined"),
        ("A: 1\nB: {{ name \n", "bad.yaml.j2:2", "unexpected end of template"),
        ("A: 1\n{% if name %}\n", "bad.yaml.j2:2", "Unexpected end of template"),
        ("A: 1\nB: [{{ name }}\n", "bad.yaml.j2", "invalid YAML"),
        ("A: 1\nB: 2\nA: 3\n", "bad.yaml.j2", "duplicate key 'A': A: 3"),
        (
            "\n{% import 'macros/none.j2' as x %}",
            "bad.yaml.j2:2",
            "'macros/none.j2' not found",
        ),
        ("\nA: {{ 1 / 0 }}\n", "bad.yaml.j2:2", "division by zero"),
        ("\nA: {{ function() }}\n", "bad.yaml.j2:2", "missing 1 required positional argument"),
        (
            "\n{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}",
            "bad.yaml.j2:2",
            "includes itself without end",
        ),
        ("\n{% include 'bad.yaml.j2' %}", "bad.yaml.j2:2", "includes itself without end"),
        ("\n{% include 5 %}", "bad.yaml.j2:2", ""),
        ("\n{% include ['a', 'b'] %}", "bad.yaml.j2:2", "'b' not found"),
        ("A: \udce9", "bad.yaml.j2", "'utf-8' codec can't decode byte"),
        ("\nA: {{ function('../good.yaml.j2') }}\n", "bad.yaml.j2:2", "not found"),
        ("Parameters: [a]\n", "bad.yaml.j2", "Parameters: expected a mapping"),
        (
            "{% import 'macros/m.j2' as m %}\n\n{{ m.bos('A') }}\n",
            "bad.yaml.j2:3",
            "has no attribute",
        ),
        ("\nX: {{ function('none.py') }}\n", "bad.yaml.j2:2", "'functions/none.py' not found"),
        ("just words\n", "bad.yaml", "not a CloudFormation template"),
    ],
)
def test_a_fault_is_named_with_file_and_line_and_the_old_build_stays(
    templates, tmp_path, text, place, words
):
    build = tmp_path / "build"
    rendering.render_all(templates, build)
    before = {path.name: path.read_bytes() for path in build.glob("*yaml*")}
    write(templates, text)
    (templates / "good.yaml.j2").write_text(GOOD + "\n# changed\n")
    with pytest.raises(ToolError) as error:
        rendering.render_all(templates, build)
    assert place in error.value.where
    assert words in error.value.what
    assert {path.name: path.read_bytes() for path in build.glob("*yaml*")} == before


def test_an_undefined_name_in_a_macro_is_found_in_the_macros_file(templates):
    (templates / "macros" / "m.j2").write_text(
        "{% macro bus(id) %}\n  {{ id }}:\n    {{ oops }}\n{% endmacro %}\n"
    )
    with pytest.raises(ToolError, match=r"macros/m.j2:3: 'oops' is undefined"):
        rendering.render("good", templates)


def test_rendering_twice_writes_nothing_and_gives_the_same_bytes(templates, tmp_path):
    rendering.render_all(templates, tmp_path / "build")
    path = tmp_path / "build" / "good.yaml"
    first, written = path.read_bytes(), path.stat().st_mtime_ns
    rendering.render_all(templates, tmp_path / "build")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (first, written)


def test_what_no_template_stands_behind_is_removed(templates, tmp_path):
    rendering.render_all(templates, tmp_path / "build")
    (templates / "good.yaml.j2").rename(templates / "better.yaml.j2")
    rendering.render_all(templates, tmp_path / "build")
    assert [path.name for path in (tmp_path / "build").glob("*yaml*")] == ["better.yaml"]


def test_a_missing_stack_is_an_error_that_lists_the_others(templates):
    with pytest.raises(ToolError, match=r"template 'none' not found\nAvailable: .*good"):
        rendering.render("none", templates)


def test_a_folder_without_templates_is_an_error_and_the_old_build_stays(templates, tmp_path):
    rendering.render_all(templates, tmp_path / "build")
    with pytest.raises(ToolError, match="nowhere: folder not found"):
        rendering.render_all(tmp_path / "nowhere", tmp_path / "build")
    assert (tmp_path / "build" / "good.yaml").exists()


def test_a_reader_never_sees_half_a_file(templates, tmp_path, monkeypatch):
    monkeypatch.setattr(rendering.Path, "replace", lambda *_: None)
    rendering.render_all(templates, tmp_path / "build")
    assert not (tmp_path / "build" / "good.yaml").exists()


CASES = {
    "blank lines in quoted strings": 'A:\n  X: "one\n\n    two\n\n\n    three"\n',
    "blank lines in single quotes": "A:\n  X: 'one\n\n    two'\n",
    "blank lines in plain scalars": "A:\n  X: one\n\n    two\n",
    "trailing spaces in a block": "A:\n  X: |\n    hard break  \n    next\n",
    "kept newlines": "A:\n  X: |+\n    end\n\n\n  Y: 1\n",
    "kept newlines at the end": "A:\n  X: |+\n    end\n\n\n",
    "a quoted string that looks like resources": (
        'Resources:\n  A:\n    X: "one\n  Two:\n    three"\n'
    ),
    "other line breaks of Unicode": (
        'A:\n  X: "one\u2028two\x85three \u2029"\n  Y: |\n    a \u2028\n    b\n'
    ),
}


@pytest.mark.parametrize("text", CASES.values(), ids=CASES.keys())
def test_rendering_changes_no_value(templates, text):
    write(templates, text)
    made = rendering.render("bad", templates)
    assert made.document == documents.parse_template(text, "")
    assert made.document == documents.parse_template(made.text, "")


def test_a_dynamic_reference_reaches_cloudformation(templates):
    reference = "{{resolve:secretsmanager:c02:SecretString:password}}"
    write(
        templates,
        f"A:\n  X: '{reference}'\n  Y: '{{{{resolve:ssm:/{{{{ name }}}}/key}}}}'\n"
        f"  Z: '{{% raw %}}{reference}{{% endraw %}}'\n",
    )
    assert rendering.render("bad", templates).document["A"] == {
        "X": reference,
        "Y": "{{resolve:ssm:/bad/key}}",
        "Z": reference,
    }


def test_plain_templates_are_taken_as_they_are(templates, tmp_path):
    (templates / "team").mkdir()
    plain = {
        "plain.yaml": "Resources:\n  A: {}  \n\n\n  B: {X: '{{ name }}'}\n",
        "data.json": '{"Resources": {}}',
        "other.yml": "Resources: {}",
        "third.template": '{"Resources": {}}',
        "team/sub.yaml": "Resources: {}",
    }
    for name, text in plain.items():
        (templates / name).write_text(text)
    (templates / "team" / "states.json").write_text('{"StartAt": "A"}')
    made = rendering.render_all(templates, tmp_path / "build")
    assert set(made) == {"good", "plain", "data", "other", "third", "team/sub"}
    assert made["plain"].text == plain["plain.yaml"]
    assert made["team/sub"].path == tmp_path / "build" / "team" / "sub.yaml"
    assert made["data"].path.name == "data.json"
    for one in made.values():
        assert one.path.read_text() == one.text


def test_a_fault_in_a_plain_template_names_its_own_line(templates):
    (templates / "plain.yaml").write_text("Resources:\n  A: [\n")
    with pytest.raises(documents.DocumentError) as error:
        rendering.render("plain", templates)
    assert error.value.where.startswith(f"{templates / 'plain.yaml'}:")


def test_two_files_of_one_name_are_refused(templates):
    (templates / "good.json").write_text('{"Resources": {}}')
    with pytest.raises(ToolError) as error:
        rendering.find(templates)
    assert error.value.where == f"{templates / 'good.json'}, {templates / 'good.yaml.j2'}"


def test_a_project_has_the_packaged_stacks_and_macros_and_its_own_win(tmp_path):
    own = tmp_path / "templates"
    (own / "macros").mkdir(parents=True)
    packaged = rendering.render_all(own, tmp_path / "build")
    assert not packaged
    text = packaged["custom-event-bus"].text
    assert (tmp_path / "build" / "custom-event-bus.yaml").read_text() == text
    write(own, "{% import 'macros/bus.j2' as m %}\nResources: {}\n")
    assert rendering.render("bad", own).document == {"Resources": {}}
    (own / "macros" / "bus.j2").write_text("{% set x = 'own' %}")
    write(own, "{% import 'macros/bus.j2' as m %}\nA: {X: {{ m.x }}}\n")
    assert rendering.render("bad", own).document == {"A": {"X": "own"}}
    write(own, "Resources: {}\n", "custom-event-bus")
    assert rendering.render("custom-event-bus", own).document == {"Resources": {}}


def test_a_broken_template_fails_only_who_asks_for_it(templates, tmp_path):
    write(templates, "A: {{ oops }}\n")
    made = rendering.Templates(templates, tmp_path / "build")
    assert made["good"].path.read_text() == made["good"].text
    with pytest.raises(ToolError) as error:
        made["bad"]
    assert error.value.where == f"{templates / 'bad.yaml.j2'}:1"
