"""The program that carries out one COPY or ADD. It runs alone in a sandbox, so these modules import the standard
library and each other, nothing else of imagesmith."""
