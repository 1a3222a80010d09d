"""Production stacks for event-driven architectures on Amazon EventBridge, and their tools."""
