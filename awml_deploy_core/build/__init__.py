"""ONNX file and profile to a TensorRT engine, with a receipt that proves its precision.

The parent side lives here and imports no TensorRT: `flavor` says which TensorRT there is, `policy` what a precision
means there, `profiles` which sizes the engine takes, `receipt` whether it is what was asked for. `child` is the
process that builds.
"""
