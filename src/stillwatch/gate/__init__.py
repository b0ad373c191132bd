"""gate: who may query what, how often, under which identity: the decision and its faces."""
