import pytest

from scripts import documents

SHORT_AND_LONG = [
    ("!Ref Bus", {"Ref": "Bus"}),
    ("!Condition HasKey", {"Condition": "HasKey"}),
    ("!GetAtt Rule.Arn", {"Fn::GetAtt": ["Rule", "Arn"]}),
    ("!GetAtt Nested.Outputs.Arn", {"Fn::GetAtt": ["Nested", "Outputs.Arn"]}),
    ("!GetAtt [Rule, Arn]", {"Fn::GetAtt": ["Rule", "Arn"]}),
    ("!Sub '${A}-b'", {"Fn::Sub": "${A}-b"}),
    ("!Sub ['${A}', {A: !Ref B}]", {"Fn::Sub": ["${A}", {"A": {"Ref": "B"}}]}),
    ("!If [C, !Ref A, !Ref AWS::NoValue]", {"Fn::If": ["C", {"Ref": "A"}, {"Ref": "AWS::NoValue"}]}),
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
        ("- A\n", "t.yaml: not a CloudFormation template"),
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
    with pytest.raises(documents.DocumentError, match=r"latin.yaml: is not UTF-8 text: .* at byte 3"):
        documents.read_template(tmp_path / "latin.yaml")
