"""Stock YOLOX-s on COCO: images of 640x640 pixels, with weights of Megvii's or of mmdetection's training.

Fill in the paths under "What to deploy" and "Data", then: `awml-deploy --model yolox config.py`.
"""

# ---------------------------------------------------------------- What to deploy

model = "yolox"
task_type = "detection2d"

# yolox_s.pth as Megvii publishes it, or mmdetection's yolox_s_8x8_300e_coco checkpoint: both layouts are read.
checkpoint_path = "checkpoints/yolox_s.pth"

# "nano", "tiny", "s", "m", "l" or "x". Nano and tiny were trained on 416x416.
arch = "s"
input_size = (640, 640)

# The order of the network's outputs, and the names of the annotation file's categories.
# fmt: off
class_names = [
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
]
# fmt: on

# ---------------------------------------------------------------- Boxes

# Scores from 0.01 and an overlap of 0.65, the best class of each row.
decoding = "awml"
metric = "coco"

# "decode" puts the boxes into the graph, "nms" the suppression, too, in standard ONNX operators.
postprocessing = "outside"

# ---------------------------------------------------------------- Data

runtime_io = {
    "ann_file": "data/coco/annotations/instances_val2017.json",
    "img_prefix": "data/coco/val2017",
    "sample_idx": 0,
}

# ---------------------------------------------------------------- What is made

# "onnx": the ONNX file; "both": the TensorRT engine, too; "trt": the engine from export.onnx_path; "none": nothing.
export = {
    "mode": "both",
    "work_dir": "work_dirs/yolox_s_640",
    "device": "cpu",
}

# A free batch up to max_batch. For Autoware's node fix it: model_io = {"batch_size": 1}.
max_batch = 8

onnx_config = {
    "opset_version": 17,
    "do_constant_folding": True,
    "simplify": True,
    "save_file": "yolox_s_640.onnx",
}

backend_config = {
    "common_config": {"precision_policy": "fp16", "max_workspace_size": 1 << 30},
}

# ---------------------------------------------------------------- What is proved

# Rows as they leave the network, half precision included; ONNX alone agrees to 1e-3 or better.
verification = {
    "enabled": True,
    "num_verify_samples": 3,
    "tolerance": 0.1,
}

# -1 takes all images.
evaluation = {
    "enabled": True,
    "num_samples": 500,
    "num_warmup": 3,
    "backends": {
        "pytorch": {"enabled": True, "device": "cpu"},
        "onnx": {"enabled": True, "device": "cpu"},
        "tensorrt": {"enabled": "auto", "device": "cuda:0"},
    },
}
