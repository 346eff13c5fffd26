"""The paper's viewer: attention in red and logit attribution in blue over one text, for any head."""
