"""The live screen: the only package that imports textual."""
