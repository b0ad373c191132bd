"""policy: from what was found to what is done with a request: the operator's policy, snapshots, rulings, appeals."""
