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
        ("A: 1\nA: 2\n", "t.yaml:2:1: not valid YAML: the key 'A' stands here twice"),
        ("A: {B: 1\n", "t.yaml:2:1: not valid YAML"),
        ("A: {<<: {B: 1}}\n", "t.yaml:1:5: not valid YAML: CloudFormation knows no merge key <<"),
        ("- A\n", "t.yaml: not a CloudFormation template"),
        ("Parameters: [a]", "t.yaml: Parameters: a mapping"),
        ("Parameters: {A: }", "t.yaml: Parameters.A: a mapping"),
        ("Resources: hello", "t.yaml: Resources: a mapping"),
        ("Resources: [a]", "t.yaml: Resources: a mapping"),
        ("Resources: {A: {Type: x, Properties: [1]}}", "t.yaml: Resources.A.Properties: a mapping"),
        ("Outputs: {1: {Value: x}}", "t.yaml: Outputs.1: a name is text"),
        (
            "Resources: {A: {Type: x, Properties: &p {P: *p}}}",
            "t.yaml: nested more than 100 deep, or an alias",
        ),
        ("A: " + "[" * 150 + "]" * 150, "t.yaml: nested more than 100 deep"),
        ("A: " + "!Not [" * 800 + "]" * 800, "t.yaml: nested too deeply"),
        ("", "t.yaml: not a CloudFormation template"),
    ],
)
def test_what_is_no_template_is_refused_with_its_place(text, words):
    with pytest.raises(documents.DocumentError) as error:
        documents.parse_template(text, "t.yaml")
    assert str(error.value).startswith(words)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(documents.DocumentError, match=r"none.yaml: cannot be read: No such file"):
        documents.read_template(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"A: \xe9")
    with pytest.raises(
        documents.DocumentError, match=r"latin.yaml: is not UTF-8 text: .* at byte 3"
    ):
        documents.read_template(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("0x_", "'0x_' is no int; put text in quotes"),
        ("0b_", "'0b_' is no int"),
        ("9" * 5000, "is no int"),
        ("!!int abc", "'abc' is no int"),
        ("!!bool abc", "'abc' is no bool"),
        ("!!timestamp abc", "the tag !!timestamp is not known here"),
        ("!!set {a}", "the tag !!set is not known here"),
        ("!Otput a.B", "the tag !Otput is not known here"),
        ("!!map x", "expected a mapping node"),
        ("{? [a, b] : 1}", "a list or a mapping is no key"),
        ("{? {a: b} : 1}", "a list or a mapping is no key"),
    ],
)
def test_what_yaml_cannot_make_of_a_text_is_refused_with_line_and_column(written, words):
    with pytest.raises(documents.DocumentError, match=r"p.yaml:2:\d+: not valid YAML: ") as error:
        documents.parse(f"A: 1\nB: {written}\n", "p.yaml")
    assert words in error.value.what


@pytest.mark.parametrize("written", ["2012-10-17", "2020-13-45", "2001-12-14t21:59:43.10-05:00"])
def test_dates_stay_as_they_are_written(written):
    assert documents.parse(f"A: {written}", "p.yaml") == {"A": written}


def test_merge_keys_fill_in_what_a_mapping_lacks():
    text = "d:\n  e: {z: &b {<<: &c {x: 1, y: 2}, x: 3}}\nf: {<<: *b, x: 4}\n"  # b is merged before it is read
    assert documents.parse(text, "p.yaml") == {
        "d": {"e": {"z": {"x": 3, "y": 2}}},
        "f": {"x": 4, "y": 2},
    }
    with pytest.raises(documents.DocumentError, match="the key 'x' stands here twice"):
        documents.parse("a: &a {x: 1}\nb: {<<: *a, x: 2, x: 3}\n", "p.yaml")


def test_sections_with_functions_in_the_place_of_names_are_a_template():
    text = "Resources: {'Fn::ForEach::Topics': [A, [b], {C: {}}], 'Fn::Transform': {Name: AWS::Include}}\nOutputs:\n"
    assert list(documents.parse_template(text, "t.yaml")["Resources"]) == [
        "Fn::ForEach::Topics",
        "Fn::Transform",
    ]
