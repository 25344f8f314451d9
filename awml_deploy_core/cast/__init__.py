"""An ONNX graph in another precision, written into the graph itself.

`narrow` rewrites float32 to float16 or bfloat16 node by node, `peaks` finds values that would not fit, `quantise` adds
QuantizeLinear and DequantizeLinear for INT8. What comes out is an ordinary ONNX file: it is compared and evaluated like
any other before an engine is built from it.
"""
