"""`make scan` reads templates with resolved conditions, as checkov does not resolve Fn::If."""

import json

from dev import variants
from eventstacks import rendering

KEY = "arn:aws:kms:eu-central-1:111122223333:key/1"


def test_a_variant_has_the_chosen_branches_only():
    template = rendering.render("custom-event-bus").document
    bare, with_key = variants.variant(template, {}), variants.variant(template, {"KmsKeyArn": KEY})
    for one in (bare, with_key):
        assert "Fn::If" not in json.dumps(one)
        assert "AWS::NoValue" not in json.dumps(one)
    group = bare["Resources"]["EventLogGroup"]["Properties"]
    assert "KmsKeyId" not in group  # checkov must see that there is none
    assert with_key["Resources"]["EventLogGroup"]["Properties"]["KmsKeyId"]
    assert "BusDeadLetterQueue" not in bare["Resources"]
    assert "BusDeadLetterQueue" in with_key["Resources"]


def test_every_template_has_a_variant_at_its_defaults(tmp_path):
    variants.main(tmp_path)
    names = {path.name.split(".")[0] for path in tmp_path.glob("*.defaults.json")}
    assert names == set(rendering.find())
