import pytest

from eventstacks import documents

SHORT_AND_LONG = [
    ("!Ref Bus", {"Ref": "Bus"}),
    ("!Condition HasKey", {"Condition": "HasKey"}),
    ("!GetAtt Rule.Arn", {"Fn::GetAtt": ["Rule", "Arn"]}),
    ("!GetAtt Nested.Outputs.Arn", {"Fn::GetAtt": ["Nested", "Outputs.Arn"]}),
    ("!GetAtt [Rule, Arn]", {"Fn::GetAtt": ["Rule", "Arn"]}),
    ("!Sub '${A}-b'", {"Fn::Sub": "${A}-b"}),
    ("!Sub ['${A}', {A: !Ref B}]", {"Fn::Sub": ["${A}", {"A": {"Ref": "B"}}]}),
    (
        "!If [C, !Ref A, !Ref AWS::NoValue]",
        {"Fn::If": ["C", {"Ref": "A"}, {"Ref": "AWS::NoValue"}]},
    ),
    ("!Transform {Name: x}", {"Fn::Transform": {"Name": "x"}}),
    ("2012-10-17", "2012-10-17"),  # a policy's version, not a day
]


@pytest.mark.parametrize(("short", "long"), SHORT_AND_LONG)
def test_short_forms_become_long_ones(short, long):
    assert documents.parse_template(f"A: {short}", "t.yaml") == {"A": long}


def test_json_is_yaml_too():
    assert documents.parse_template('{"A": {"Fn::GetAtt": ["B", "Arn"]}}', "t.json") == {
        "A": {"Fn::GetAtt": ["B", "Arn"]}
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A: 1\nA: 2\n", "t.yaml:2:1: invalid YAML: duplicate key 'A'"),
        ("A: {B: 1\n", "t.yaml:2:1: invalid YAML"),
        ("A: {<<: {B: 1}}\n", "t.yaml:1:5: invalid YAML: YAML merge keys (<<) are not supported"),
        ("- A\n", "t.yaml: not a CloudFormation template: expected"),
        ("Parameters: [a]", "t.yaml: Parameters: expected a mapping"),
        ("Parameters: {A: }", "t.yaml: Parameters.A: expected a mapping"),
        ("Parameters: {A: {MinLength: x}}", "t.yaml: Parameters.A.MinLength: expected a number"),
        ("Parameters: {A: {MaxValue: [1]}}", "t.yaml: Parameters.A.MaxValue: expected a number"),
        ("Parameters: {A: {AllowedPattern: 1}}", "t.yaml: Parameters.A.AllowedPattern: expected"),
        ("Parameters: {A: {AllowedValues: 5}}", "t.yaml: Parameters.A.AllowedValues: expected"),
        ("Resources: hello", "t.yaml: Resources: expected a mapping"),
        ("Resources: [a]", "t.yaml: Resources: expected a mapping"),
        (
            "Resources: {A: {Type: x, Properties: [1]}}",
            "t.yaml: Resources.A.Properties: expected a mapping",
        ),
        (
            "Conditions:\n  On: !Equals [a, a]\n",
            "t.yaml:2:3: invalid YAML: the key 'On' is of type bool in YAML; quote it",
        ),
        (
            "Resources: {A: {Type: x, Properties: &p {P: *p}}}",
            "t.yaml: nested more than 100 levels deep, or an alias",
        ),
        ("A: " + "[" * 150 + "]" * 150, "t.yaml: nested more than 100 levels deep"),
        ("A: " + "!Not [" * 800 + "]" * 800, "t.yaml: nested "),
        ("", "t.yaml: not a CloudFormation template"),
    ],
)
def test_what_is_no_template_is_refused_with_its_place(text, words):
    with pytest.raises(documents.DocumentError) as error:
        documents.parse_template(text, "t.yaml")
    assert str(error.value).startswith(words)


def test_a_byte_order_mark_is_left_out(tmp_path):
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf{}")
    assert documents.read_text(tmp_path / "bom.json") == "{}"


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(documents.DocumentError, match=r"none.yaml: cannot be read: No such file"):
        documents.parse_template(documents.read_text(tmp_path / "none.yaml"), "t")
    (tmp_path / "latin.yaml").write_bytes(b"A: \xe9")
    with pytest.raises(
        documents.DocumentError, match=r"latin.yaml: cannot be read: 'utf-8' codec .* position 3"
    ):
        documents.parse_template(documents.read_text(tmp_path / "latin.yaml"), "t")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("0x_", "invalid literal"),
        ("0b_", "invalid literal"),
        ("9" * 5000, "integer string conversion"),
        ("!!int abc", "invalid literal"),
        ("!!bool abc", "abc"),
        ("!!timestamp abc", "unknown tag !!timestamp"),
        ("!!set {a}", "unknown tag !!set"),
        ("!Otput a.B", "unknown tag !Otput"),
        ("!!map x", "expected a mapping node"),
        ("{? [a, b] : 1}", "keys must be scalars"),
        ("{? {a: b} : 1}", "keys must be scalars"),
    ],
)
def test_what_yaml_cannot_make_of_a_text_is_refused_with_line_and_column(written, words):
    with pytest.raises(documents.DocumentError, match=r"p.yaml.*: invalid YAML: ") as error:
        documents.parse(f"A: 1\nB: {written}\n", "p.yaml")
    assert words in error.value.what


@pytest.mark.parametrize("written", ["2012-10-17", "2020-13-45", "2001-12-14t21:59:43.10-05:00"])
def test_dates_stay_as_they_are_written(written):
    assert documents.parse(f"A: {written}", "p.yaml") == {"A": written}


def test_merge_keys_fill_in_what_a_mapping_lacks():
    # b is merged before it is read
    text = "d:\n  e: {z: &b {<<: &c {x: 1, y: 2}, x: 3}}\nf: {<<: *b, x: 4}\n"
    assert documents.parse(text, "p.yaml") == {
        "d": {"e": {"z": {"x": 3, "y": 2}}},
        "f": {"x": 4, "y": 2},
    }
    with pytest.raises(documents.DocumentError, match="duplicate key 'x'"):
        documents.parse("a: &a {x: 1}\nb: {<<: *a, x: 2, x: 3}\n", "p.yaml")


def test_aliases_of_aliases_are_refused_without_following_them():
    levels = "".join(f"- &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 90))
    with pytest.raises(documents.DocumentError, match="an alias that contains"):
        documents.parse(f"- &a0 [x]\n{levels}", "p.yaml")  # 2 ** 89 values


def test_merges_of_merges_do_not_double_the_keys():
    read = []

    class Loader(documents.StrictLoader):
        def construct_object(self, node, deep=False):  # noqa: FBT002 - as in PyYAML
            read.append(node)
            return super().construct_object(node, deep)

    levels = "".join(f"- &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 13))
    assert documents.parse(f"- &a0 {{x: 1}}\n{levels}", "p.yaml", Loader) == [{"x": 1}] * 13
    assert len(read) < 100


def test_sections_with_functions_in_the_place_of_names_are_a_template():
    text = (
        "Resources: {'Fn::ForEach::Topics': [A, [b], {C: {}}], "
        "'Fn::Transform': {Name: AWS::Include}}\n"
        "Outputs:\n"
    )
    assert list(documents.parse_template(text, "t.yaml")["Resources"]) == [
        "Fn::ForEach::Topics",
        "Fn::Transform",
    ]


def test_keys_are_strings():
    text = "Mappings: {Accounts: {111122223333: {0123: x}}}"
    assert documents.parse_template(text, "t.yaml") == {
        "Mappings": {"Accounts": {"111122223333": {"0123": "x"}}}
    }


def test_depth_is_counted_in_lists_and_mappings(monkeypatch):
    nested: list[object] = [{"a": [1]}]
    monkeypatch.setattr(documents, "MAX_DEPTH", 3)
    assert not documents.is_too_large(nested)
    monkeypatch.setattr(documents, "MAX_DEPTH", 2)
    assert documents.is_too_large(nested)
    monkeypatch.setattr(documents, "MAX_DEPTH", 50)
    nested.append(nested)
    assert documents.is_too_large(nested)
