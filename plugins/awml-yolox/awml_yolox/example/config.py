"""Deploy a small object detector: `awml-deploy --model yolox config.py`, run in this folder."""

model = "yolox"
task_type = "detection2d"
checkpoint_path = "weights.safetensors"
class_names = ["unknown", "car", "truck", "bus", "trailer", "motorcycle", "pedestrian", "bicycle"]

# AWML's YOLOX-opt-ELAN, narrower than the published one (widen_factor 1, out_channels 128) so that everything here
# takes seconds.
arch = "opt-elan"
deepen_factor = 2
widen_factor = 0.1875
out_channels = 24
num_elan_blocks = 1

# Height and width of the network's image; the pictures are scaled to fit and filled up with grey.
input_size = (256, 384)

runtime_io = {
    "ann_file": "data/street_infos_test.json",
    "img_prefix": "data",
    "sample_idx": 0,
}

# Autoware's node reads the batch from the file, so it is fixed.
model_io = {"batch_size": 1}

# "both" also builds a TensorRT engine, on a machine with an NVIDIA GPU.
export = {
    "mode": "onnx",
    "work_dir": "work_dir",
}

onnx_config = {
    "opset_version": 16,
    "simplify": True,
    "save_file": "yolox_street.onnx",
}

backend_config = {
    "common_config": {"precision_policy": "fp16", "max_workspace_size": 1 << 30},
}

# The rows of the exported file may differ from the trained network's by so much.
verification = {
    "enabled": True,
    "num_verify_samples": 4,
    "tolerances": {"float32/float32": 1e-3},
}

# All pictures. AP50 is the mean average precision at an overlap of 0.5.
evaluation = {
    "enabled": True,
    "num_samples": -1,
    "num_warmup": 2,
    "gates": {"AP50": {"min": 0.6}},
}
