"""Eight-bit inference without training: what is rounded, and how the best rounding is found.

`rounding` is what both runtimes have in common. `levels` and `calibration` are OpenVINO's, found
once and kept in a file, and `openvino` builds with them; `litert` changes model and file. All but
`litert` is light.
"""
