"""References to stacks for tests that need no environment file."""

from eventstacks.environment import StackRef, StackSettings


def stack_ref(environment, stack, stack_name, region):
    """Return a reference to a stack without parameters."""
    settings = StackSettings(stack, stack_name, template=stack, regions=(region,))
    return StackRef(environment, stack, stack_name, region, settings)
