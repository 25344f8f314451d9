"""AWML's CenterPoint J6Gen2_Base 2.6.1: 121 m around the vehicle, SECOND, with intensity, for Autoware's node.

Fill in the paths under "What to deploy" and "Data", then: `awml-deploy --model centerpoint config.py`.
"""

# ---------------------------------------------------------------- What to deploy

model = "centerpoint"
task_type = "detection3d"

# A checkpoint of AWML's training (mmengine .pth), or the same weights as safetensors. Every key must fit: a checkpoint
# that carries a quantiser's state (epoch_*_ptq.pth) is refused, deploy the one that it was made from.
checkpoint_path = "work_dirs/centerpoint_j6gen2_base_2_6_1/epoch_29.pth"

# The order of the heat map's channels, which is the order in training.
class_names = ["car", "truck", "bus", "bicycle", "pedestrian"]

# ---------------------------------------------------------------- The points

# Files hold x, y, z, intensity (0 to 255, as it is), ring. One earlier sweep is moved into the axes of the key frame
# and merged with it; the column of the ring then holds the seconds since the sweep, 0 for the key frame.
load_dim = 5
sweeps = 1

# The network sees x, y, z, intensity and the time lag. Offsets from the mean of the pillar's points and from its centre
# make these the encoder's 11 channels.
point_columns = (0, 1, 2, 3, 4)

# ---------------------------------------------------------------- The pillars

# Metres: x, y, z of the low corner, then of the high one. Points on the border are out. The range must be a whole
# number of voxels: Autoware's node cuts a fraction off and would see another grid.
point_cloud_range = (-122.4, -122.4, -3.0, 122.4, 122.4, 5.0)
voxel_size = (0.24, 0.24, 8.0)

# Pillars to one cell of the heat map: 1020 x 1020 pillars, 510 x 510 cells.
out_size_factor = 2

# Points that a pillar keeps; the node is compiled for 32. Which ones it keeps differs: the first ones here and in AWML,
# random ones in the node.
max_num_points = 32

# Pillars that a frame keeps. The report says if any frame had more.
max_voxels = 96000

# ---------------------------------------------------------------- The network

# AWML's own model config may be given instead of everything in this section and the two above, as a second file on
# the command line; what it says wins.

encoder = "pillar"
feat_channels = (32, 32)

# SECOND and SECONDFPN: three stages of 1 + 3, 1 + 5 and 1 + 5 convolutions, the first one at the size of the grid; the
# neck shrinks the first map, keeps the second and enlarges the third.
backbone = "second"
layer_nums = (3, 5, 5)
layer_strides = (1, 2, 2)
out_channels = (64, 128, 256)
upsample_strides = (0.5, 1, 2)
upsample_channels = (128, 128, 128)
use_conv_for_no_stride = True
share_conv_channel = 64
common_heads = {"reg": (2, 2), "height": (1, 2), "dim": (3, 2), "rot": (2, 2), "vel": (2, 2)}

# What Autoware's node needs: width before length, heading from the y axis. AWML's deployment calls it
# --rot_y_axis_reference. Nothing but the order and sign of channels changes, and every variant of a run has it.
rot_y_axis_reference = True

# ---------------------------------------------------------------- From maps to boxes

# "awml" is the rule that AWML evaluates with: the 500 best cells of each class and then of all, a score above
# score_threshold, then `circle`: of two boxes whose centres are at most 1 m apart (nms_threshold is its square) the
# better one stays.
# "autoware" is the rule of the node. The two do not agree box by box. To see what the vehicle will see:
#   awml-deploy --model centerpoint config.py --set decoding=autoware
decoding = "awml"
score_threshold = 0.1
nms = "circle"
nms_threshold = 1.0
post_max_size = 100
post_center_range = (-200.0, -200.0, -10.0, 200.0, 200.0, 10.0)

# The node's parameters; they go into its files, and count here with decoding = "autoware". One score for each distance
# in metres up to which it holds. The report gives the score with the best F1 of each class ("at score").
score_distance_bins = (50.0, 90.0, 121.0, 200.0)
score_thresholds = {
    "car": (0.35, 0.35, 0.35, 0.35),
    "truck": (0.35, 0.35, 0.35, 0.35),
    "bus": (0.35, 0.35, 0.35, 0.35),
    "bicycle": (0.35, 0.35, 0.35, 0.35),
    "pedestrian": (0.35, 0.35, 0.35, 0.35),
}
yaw_norm_thresholds = (0.3, 0.3, 0.3, 0.3, 0.0)
circle_nms_dist_threshold = 0.5
iou_nms_search_distance_2d = 10.0
iou_nms_threshold = 0.1

# ---------------------------------------------------------------- Data

# Paths inside the info file are relative to data_root; data_root itself to the folder that the command is run in.
runtime_io = {
    "info_file": "data/t4dataset/info/t4dataset_j6gen2_base_infos_test.pkl",
    "data_root": "data/t4dataset",
    "sample_idx": 0,
}

# ---------------------------------------------------------------- What is made

# "onnx": the ONNX files; "both": the TensorRT engines, too; "trt": engines from export.onnx_path; "none": nothing.
export = {
    "mode": "both",
    "work_dir": "work_dirs/centerpoint_j6gen2_base_2_6_1",
    "device": "cpu",
}

# The released files have opset 13. torch's newer exporter begins at 18, so the older one is used.
onnx_config = {
    "opset_version": 13,
    "do_constant_folding": True,
    "simplify": True,
    "multi_file": True,
}

# The node binds inputs and outputs by place: the order of the six maps counts, and their names do not.
components = {
    "pts_voxel_encoder": {
        "onnx_file": "pts_voxel_encoder.onnx",
        "engine_file": "pts_voxel_encoder.engine",
        "io": {
            "inputs": [{"name": "input_features"}],
            "outputs": [{"name": "pillar_features"}],
            "dynamic_axes": {
                "input_features": {0: "num_voxels", 1: "num_max_points"},
                "pillar_features": {0: "num_voxels"},
            },
        },
        "tensorrt_profile": {
            "input_features": {
                "min_shape": (1, 32, 11),
                "opt_shape": (40000, 32, 11),
                "max_shape": (96000, 32, 11),
            },
        },
    },
    "pts_backbone_neck_head": {
        "onnx_file": "pts_backbone_neck_head.onnx",
        "engine_file": "pts_backbone_neck_head.engine",
        "io": {
            "inputs": [{"name": "spatial_features"}],
            "outputs": [
                {"name": "heatmap"},
                {"name": "reg"},
                {"name": "height"},
                {"name": "dim"},
                {"name": "rot"},
                {"name": "vel"},
            ],
        },
        "tensorrt_profile": {
            "spatial_features": {
                "min_shape": (1, 32, 1020, 1020),
                "opt_shape": (1, 32, 1020, 1020),
                "max_shape": (1, 32, 1020, 1020),
            },
        },
    },
}

# The node builds its engines itself, in half precision unless told otherwise. Its encoder takes exactly max_voxels
# pillars at a time, the rest of them empty; an engine made here takes what there is.
backend_config = {
    "common_config": {"precision_policy": "fp16", "max_workspace_size": 1 << 32},
}

# ---------------------------------------------------------------- What is proved

# One frame to begin with: PyTorch takes up to half a minute for it at this size on two CPU cores. The tolerance of the
# engine is a first guess; the report says which one each output would have kept.
verification = {
    "enabled": True,
    "num_verify_samples": 1,
    "tolerance": 1e-2,
    "scenarios": {
        "onnx": [
            {"ref_backend": "pytorch", "ref_device": "cpu", "test_backend": "onnx", "test_device": "cpu"},
        ],
        "both": [
            {"ref_backend": "pytorch", "ref_device": "cpu", "test_backend": "onnx", "test_device": "cpu"},
            {
                "ref_backend": "onnx",
                "ref_device": "cpu",
                "test_backend": "tensorrt",
                "test_device": "cuda:0",
                "tolerance": 0.5,
            },
        ],
        "trt": [
            {
                "ref_backend": "onnx",
                "ref_device": "cpu",
                "test_backend": "tensorrt",
                "test_device": "cuda:0",
                "tolerance": 0.5,
            },
        ],
        "none": [],
    },
}

# Average precision by distance of centres, as AWML's T4MetricV2 has it. AWML's own plane distance and heading have
# known faults (length and width exchanged, heading without its sign); t4_compat = True reproduces them.
# AWML's own figures for this model: 74.26 mAP within 121 m (84.65 up to 50 m, 65.60 up to 90 m, 41.52 beyond) on the
# 5,179 frames of its test set.
metric = "t4"
t4_compat = False
metric_ranges = ((0, 50), (50, 90), (90, 121), (0, 121))

# -1 takes all frames, which is for a GPU: set the devices below to "cuda:0".
evaluation = {
    "enabled": True,
    "num_samples": 20,
    "num_warmup": 3,
    "backends": {
        "pytorch": {"enabled": True, "device": "cpu"},
        "onnx": {"enabled": True, "device": "cpu"},
        "tensorrt": {"enabled": "auto", "device": "cuda:0"},
    },
    "gates": {"mAP": {"max_drop": 0.01}},
}
