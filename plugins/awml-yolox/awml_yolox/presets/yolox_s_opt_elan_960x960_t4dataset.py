"""AWML's YOLOX-s-opt-ELAN for T4 data: images of 960x960 pixels, batch 6, for Autoware's `autoware_tensorrt_yolox`.

Fill in the paths under "What to deploy" and "Data", then: `awml-deploy --model yolox config.py`.
"""

# ---------------------------------------------------------------- What to deploy

model = "yolox"
task_type = "detection2d"

# A checkpoint of AWML's training (mmengine .pth), of the older tier4/YOLOX training, or the weights as safetensors.
checkpoint_path = "work_dirs/yolox-s-opt-elan_960x960_300e_t4dataset/epoch_24.pth"

# The order of the network's outputs and of the lines in label.txt. It always travels with the model: other networks
# of this family have other orders.
class_names = ["unknown", "car", "truck", "bus", "trailer", "motorcycle", "pedestrian", "bicycle"]

# The published network. AWML's own model config may be given instead, as a second file on the command line.
arch = "opt-elan"

# Height and width. Images are scaled to fit, put in the upper left corner and filled up with grey, as the node does it.
input_size = (960, 960)
preprocessing = "letterbox"
pad_value = 114

# ---------------------------------------------------------------- Boxes

# "awml": the best class of each row above 0.01, suppression within a class above an overlap of 0.65, as AWML measures.
# "autoware": every class above 0.35, suppression across classes above 0.7; what the node will publish. Evaluate with
# both, with `--set decoding=autoware`, to know how far the two are apart.
decoding = "awml"

# The node decodes rows itself, so nothing of that stands in the graph.
postprocessing = "outside"

# AWML reports VOC's mAP at an overlap of 0.5; "coco" is the mean over overlaps from 0.5 to 0.95.
metric = "voc"

# ReLU6 is what lets the node quantise to int8 without calibration images (clip_value 6.0). Accelerators that do not
# know it can have ReLU instead; the numbers then change, and the report says by how much.
replace_relu6 = False

# ---------------------------------------------------------------- Data

# AWML's 2D info file or a COCO file. Relative paths in it start at img_prefix. For a folder of images without
# annotations leave ann_file out; everything but the accuracy is still measured.
runtime_io = {
    "ann_file": "data/t4dataset/t4dataset_2d_infos_test.json",
    "img_prefix": "data/t4dataset",
    "sample_idx": 0,
}

# ---------------------------------------------------------------- What is made

# "onnx": the ONNX file; "both": the TensorRT engine, too; "trt": the engine from export.onnx_path; "none": nothing.
export = {
    "mode": "both",
    "work_dir": "work_dirs/yolox_s_opt_elan",
    "device": "cpu",
}

# The node reads batch, height and width from the file's input, so none of them may be free. Six is AWML's number of
# cameras; a node that hands over one image at a time is better off with 1.
model_io = {"batch_size": 6}

# The node finds the file by its parameter model_path, and the labels by label_path: label.txt and the parameters are in
# handover/autoware, the file itself in onnx.
onnx_config = {
    "opset_version": 11,
    "do_constant_folding": True,
    "simplify": True,
    "save_file": "yolox_s_opt_elan_batch_6.onnx",
}

# The node can also build its own engine from the ONNX file; its parameter `precision` is written to match this one.
backend_config = {
    "common_config": {"precision_policy": "fp16", "max_workspace_size": 1 << 30},
}

# ---------------------------------------------------------------- What is proved

# Rows as they leave the network: four raw numbers of the box, then shares between 0 and 1. Half precision included;
# ONNX alone agrees to 1e-3 or better.
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

# -1 takes all images.
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
