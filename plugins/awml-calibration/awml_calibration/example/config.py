"""Deploy a small calibration classifier: `awml-deploy --model calibration config.py`, run in this folder."""

model = "calibration"
task_type = "classification"
checkpoint_path = "weights.safetensors"
class_names = ["miscalibrated", "calibrated"]

# A ResNet-18, narrower than the published one (base_channels 64) so that everything here takes seconds.
depth = 18
base_channels = 12

# The first three channels of the network's image. AWML trains on "bgr"; this network was trained that way, too.
channel_order = "bgr"

# Smallest, usual and largest image that the exported file must take.
height = (96, 192, 384)
width = (160, 320, 640)

runtime_io = {
    "info_pkl": "data/t4dataset_street_infos_test.pkl",
    "data_root": "data",
    "sample_idx": 0,
}

# "both" also builds a TensorRT engine, on a machine with an NVIDIA GPU.
export = {
    "mode": "onnx",
    "work_dir": "work_dir",
}

onnx_config = {
    "opset_version": 16,
    "simplify": True,
    "save_file": "calibration_status_classifier.onnx",
}

backend_config = {
    "common_config": {"precision_policy": "fp16", "max_workspace_size": 1 << 30},
}

# Logits of the exported file may differ from the trained network's by so much; a file in half precision by more.
verification = {
    "enabled": True,
    "num_verify_samples": 4,
    "tolerances": {"float32/float32": 1e-3},
}

# All samples: every picture once with its true calibration and once with a wrong one.
evaluation = {
    "enabled": True,
    "num_samples": -1,
    "num_warmup": 2,
    "gates": {"accuracy": {"min": 0.9}},
}
