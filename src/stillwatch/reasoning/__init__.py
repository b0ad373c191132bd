"""reasoning: what is shown of a reply's reasoning, in a whole reply and in a stream; plain functions of text."""
