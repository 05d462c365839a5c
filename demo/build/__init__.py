"""Makes the demo models' artefacts, each the same bytes every time on the same machine.

`python -m demo.build` remakes the committed ones (it needs requirements-demo-build.txt); `minilm` alone is made where
it is used, because its 91 MB do not belong in a repository, and needs no more than numpy, onnx and safetensors.
"""
