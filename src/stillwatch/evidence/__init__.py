"""evidence: Signals and innocent explanations; what a group is weighed with."""
