"""UNETR++: an encoder and a decoder of efficient paired attention and convolutions."""
