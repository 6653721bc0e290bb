"""Where specs come from. Every source gives whole revisions, or none."""
