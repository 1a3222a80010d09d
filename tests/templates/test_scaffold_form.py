"""What `make new` writes has the form of the stacks that come with it."""

import in_process
import pytest
import test_alarms
import test_form
import test_order
import test_wildcards

from eventstacks import rendering, scaffold


@pytest.mark.parametrize("kind", scaffold.TARGETS)
def test_a_new_stack_has_the_form_of_the_others(checkout, kind):
    in_process.run("new", "--stack", "orders", "--target", kind)
    rendered = rendering.render("orders")
    text, template = rendered.text, rendered.document
    test_form.test_sections_and_keys_stand_in_canonical_order(template)
    test_form.test_properties_are_sorted_so_that_they_are_found(template)
    test_form.test_no_debris_of_rendering(text)
    test_form.test_the_consoles_form_explains_itself(template)
    test_form.test_parameters_and_conditions_are_all_used(text, template)
    test_form.test_outputs_are_described_and_exported_under_the_stacks_name(template)
    test_alarms.test_the_composite_alarm_covers_every_metric_alarm(template)
    test_order.test_policies_exist_before_the_rule("orders", "EventRule")
    assert test_wildcards.unexplained(text) == []
