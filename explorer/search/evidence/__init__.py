"""What a mask has to stand beside before a claim is made of it: nulls, baselines, its own members, other searches."""
