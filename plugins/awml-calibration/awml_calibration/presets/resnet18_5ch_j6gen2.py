"""AWML's resnet18_5ch for the J6 Gen2 vehicle: images of 2880x1860 pixels, for Autoware's node.

Fill in the two paths under "What to deploy" and "Data", then: `awml-deploy --model calibration config.py`.
"""

# ---------------------------------------------------------------- What to deploy

model = "calibration"
task_type = "classification"

# A checkpoint of AWML's training (mmengine .pth), or the same weights as safetensors.
checkpoint_path = "work_dirs/resnet18_5ch_1xb16-50e_j6gen2/best_accuracy_top1.pth"

# The order of the network's outputs. Autoware's node reads output 1 as the confidence that all is well.
class_names = ["miscalibrated", "calibrated"]

# The published network. AWML's own model config may be given instead, as a second file on the command line.
depth = 18
base_channels = 64

# ---------------------------------------------------------------- The image

# AWML's training reads images as blue, green, red and never turns them round. The preprocessing of Autoware's node
# makes red, green, blue. Which one a given network wants shows in its accuracy: evaluate with both.
channel_order = "bgr"

# As in training and in the node's parameters of the same names.
max_depth = 128.0
dilation_size = 1

# Smallest, usual and largest image, as in the node's parameters of the same names.
height = (1080, 1860, 2160)
width = (1920, 2880, 3840)

# ---------------------------------------------------------------- Data

# Paths inside the info file are relative to data_root; data_root itself to the folder that the command is run in.
runtime_io = {
    "info_pkl": "data/t4dataset/calibration_info/t4dataset_j6gen2_infos_test.pkl",
    "data_root": "data/t4dataset",
    "sample_idx": 0,
}

# Another number draws other wrong calibrations for the miscalibrated half of the samples.
noise_seed = 0

# ---------------------------------------------------------------- What is made

# "onnx": the ONNX file; "both": the TensorRT engine, too; "trt": the engine from export.onnx_path; "none": nothing.
export = {
    "mode": "both",
    "work_dir": "work_dirs/calibration_j6gen2",
    "device": "cpu",
}

# The node looks for this file name and binds the tensors "input" and "output"; batch, height and width stay free.
onnx_config = {
    "opset_version": 16,
    "do_constant_folding": True,
    "simplify": True,
    "save_file": "calibration_status_classifier.onnx",
}

# The node runs one image at a time in half precision.
backend_config = {
    "common_config": {"precision_policy": "fp16", "max_workspace_size": 1 << 30},
    "model_inputs": [
        {
            "input_shapes": {
                "input": {
                    "min_shape": (1, 5, 1080, 1920),
                    "opt_shape": (1, 5, 1860, 2880),
                    "max_shape": (1, 5, 2160, 3840),
                },
            },
        },
    ],
}

# ---------------------------------------------------------------- What is proved

# Logits, half precision included. ONNX alone agrees to 1e-3 or better.
verification = {
    "enabled": True,
    "num_verify_samples": 3,
    "tolerance": 0.1,
    "scenarios": {
        "onnx": [
            {
                "ref_backend": "pytorch",
                "ref_device": "cpu",
                "test_backend": "onnx",
                "test_device": "cpu",
                "tolerance": 1e-3,
            },
        ],
        "both": [
            {
                "ref_backend": "pytorch",
                "ref_device": "cpu",
                "test_backend": "onnx",
                "test_device": "cpu",
                "tolerance": 1e-3,
            },
            {"ref_backend": "onnx", "ref_device": "cpu", "test_backend": "tensorrt", "test_device": "cuda:0"},
        ],
        "trt": [
            {"ref_backend": "onnx", "ref_device": "cpu", "test_backend": "tensorrt", "test_device": "cuda:0"},
        ],
        "none": [],
    },
}

# Every entry of the info file is used twice, with its true calibration and with a wrong one; -1 takes them all.
evaluation = {
    "enabled": True,
    "num_samples": 100,
    "num_warmup": 3,
    "backends": {
        "pytorch": {"enabled": True, "device": "cpu"},
        "onnx": {"enabled": True, "device": "cpu"},
        "tensorrt": {"enabled": "auto", "device": "cuda:0"},
    },
}
