import pytest

from eventstacks import __version__, rendering
from eventstacks.rendering import RenderingError

MACROS = "{% macro bus(id) %}\n  {{ id }}:\n    Type: AWS::Events::EventBus\n{% endmacro %}\n"
GOOD = "{% import 'macros/m.j2' as m %}\nDescription: {{ name }} {{ version }}\nResources:\n{{ m.bus('A') }}\n\n\n{{ m.bus('B') }}"


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
    text, template = rendering.render("good", templates)
    assert text == (
        f"Description: good {__version__}\n\nResources:\n  A:\n    Type: AWS::Events::EventBus\n\n"
        "  B:\n    Type: AWS::Events::EventBus\n"
    )
    assert list(template["Resources"]) == ["A", "B"]


@pytest.mark.parametrize(
    "head", ["|", ">-", "|2-", "|+1", "| # the code", "!Sub |", "&code |", "!Sub &code |-", "  |"]
)
def test_a_block_scalar_keeps_its_blank_lines_however_it_begins(templates, head):
    write(templates, f"Resources:\n  A:\n    X: {head}\n      one\n\n\n      two\n    Y: 1\n")
    text, template = rendering.render("bad", templates)
    assert f"X: {head}\n      one\n\n\n      two\n    Y: 1\n" in text
    assert template["Resources"]["A"]["Y"] == 1


def test_comments_stay_with_what_they_are_about_and_code_keeps_its_blank_lines(templates):
    (templates / "functions" / "f.py").write_text("import os\n\n\ndef f():\n    pass\n")
    write(
        templates,
        "Resources:\n  # First.\n  A:\n    X: |\n{{ function('f.py') | indent(6, first=true) }}\n\n\n  # Second.\n  B: {}\n\n",
    )
    assert rendering.render("bad", templates)[0] == (
        "Resources:\n  # First.\n  A:\n    X: |\n      import os\n\n\n      def f():\n          pass\n\n  # Second.\n  B: {}\n"
    )


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("A: 1\nB: {{ naem }}\n", "bad.yaml.j2:2", "'naem' is undefined"),
        ("A: 1\nB: {{ name \n", "bad.yaml.j2:2", "unexpected end of template"),
        ("A: 1\n{% if name %}\n", "bad.yaml.j2:2", "Unexpected end of template"),
        ("A: 1\nB: [{{ name }}\n", "bad.yaml.j2", "not valid YAML"),
        ("A: 1\nB: 2\nA: 3\n", "bad.yaml.j2:3", "the key 'A' stands here twice"),
        (
            "\n{% import 'macros/none.j2' as x %}",
            "bad.yaml.j2:2",
            "there is no template 'macros/none.j2'",
        ),
        ("\nA: {{ 1 / 0 }}\n", "bad.yaml.j2:2", "division by zero"),
        ("\nA: {{ function() }}\n", "bad.yaml.j2:2", "missing 1 required positional argument"),
        (
            "\n{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}",
            "bad.yaml.j2:2",
            "calls or includes itself without end",
        ),
        ("\n{% include 'bad.yaml.j2' %}", "bad.yaml.j2:2", "calls or includes itself without end"),
        ("\n{% include 5 %}", "bad.yaml.j2:2", ""),
        ("\n{% include ['a', 'b'] %}", "bad.yaml.j2:2", "there is no template 'b'"),
        ("A: \udce9", "bad.yaml.j2", "is not UTF-8 text"),
        ("Parameters: [a]\n", "bad.yaml.j2", "Parameters: a mapping"),
        (
            "{% import 'macros/m.j2' as m %}\n\n{{ m.bos('A') }}\n",
            "bad.yaml.j2:3",
            "has no attribute",
        ),
        ("X: {{ function('none.py') }}\n", "functions/none.py", "cannot be read"),
        ("just words\n", "bad.yaml", "not a CloudFormation template"),
    ],
)
def test_a_fault_is_named_with_file_and_line_and_the_old_build_stays(
    templates, tmp_path, text, place, words
):
    build = tmp_path / "build"
    rendering.render_all(templates, build)
    before = {path.name: path.read_bytes() for path in build.iterdir()}
    write(templates, text)
    (templates / "good.yaml.j2").write_text(GOOD + "\n# changed\n")
    with pytest.raises(rendering.ToolError) as error:
        rendering.render_all(templates, build)
    assert place in error.value.where
    assert words in error.value.what
    assert {path.name: path.read_bytes() for path in build.iterdir()} == before


def test_an_undefined_name_in_a_macro_is_found_in_the_macros_file(templates):
    (templates / "macros" / "m.j2").write_text(
        "{% macro bus(id) %}\n  {{ id }}:\n    {{ oops }}\n{% endmacro %}\n"
    )
    with pytest.raises(RenderingError, match=r"macros/m.j2:3: 'oops' is undefined"):
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
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["better.yaml"]


def test_a_missing_stack_is_an_error_that_lists_the_others(templates):
    with pytest.raises(
        RenderingError, match=r"there is no template 'none.yaml.j2'\nThere are: good"
    ):
        rendering.render("none", templates)


def test_a_folder_without_templates_is_an_error_and_the_old_build_stays(templates, tmp_path):
    rendering.render_all(templates, tmp_path / "build")
    with pytest.raises(RenderingError, match=r"nowhere: there is no \*.yaml.j2"):
        rendering.render_all(tmp_path / "nowhere", tmp_path / "build")
    assert (tmp_path / "build" / "good.yaml").exists()


@pytest.mark.parametrize("where", ["build", "build/good.yaml", "build/old.yaml"])
def test_what_cannot_be_written_is_said(templates, tmp_path, where):
    if where == "build":
        (tmp_path / where).write_text("")
    else:
        (tmp_path / where).mkdir(parents=True)
    write(templates, GOOD, "before")
    with pytest.raises(RenderingError, match="cannot be written: ") as error:
        rendering.render_all(templates, tmp_path / "build")
    assert error.value.where == str(tmp_path / where)
    assert where == "build/old.yaml" or not (tmp_path / "build" / "before.yaml").exists()
    assert list((tmp_path / "build").glob(".*")) == []


def test_what_is_interrupted_leaves_nothing_half_written(templates, tmp_path, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(rendering.Path, "chmod", pressed)
    with pytest.raises(KeyboardInterrupt):
        rendering.render_all(templates, tmp_path / "build")
    assert list((tmp_path / "build").iterdir()) == []
