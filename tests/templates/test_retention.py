"""Resources that must outlive their stack keep what protects them."""

import pytest

from eventstacks import rendering

STACKS = rendering.find(rendering.TEMPLATES)
POLICIES = ("DeletionPolicy", "UpdateReplacePolicy")


@pytest.mark.parametrize("stack", STACKS)
def test_a_bucket_policy_lives_as_long_as_its_bucket(stack):
    resources = rendering.render(stack).document["Resources"]
    for name, resource in resources.items():
        if resource["Type"] == "AWS::S3::BucketPolicy":
            bucket = resources[resource["Properties"]["Bucket"]["Ref"]]
            assert [resource.get(key) for key in POLICIES] == [bucket[key] for key in POLICIES], (
                name
            )


def test_the_identity_provider_of_the_account_is_retained():
    provider = rendering.render("github-deploy-role").document["Resources"]["OidcProvider"]
    assert [provider.get(key) for key in POLICIES] == ["RetainExceptOnCreate", "Retain"]
