"""Deploy a small CenterPoint: `awml-deploy --model centerpoint config.py`, run in this folder."""

model = "centerpoint"
task_type = "detection3d"
checkpoint_path = "weights.safetensors"
class_names = ["car", "truck", "bus", "bicycle", "pedestrian"]

# The square of about 50 m around the vehicle that is looked at, in pillars. The range must be a whole number of them.
point_cloud_range = (-51.2, -51.2, -3.0, 51.2, 51.2, 5.0)
voxel_size = (0.32, 0.32, 8.0)
out_size_factor = 2
max_num_points = 32
max_voxels = 12000

# Files hold x, y, z, intensity, ring; the ring becomes seconds since the sweep. The network sees x, y, z and seconds.
load_dim = 5
point_columns = (0, 1, 2, 4)
sweeps = 1

# A narrow SECOND, so that everything here takes seconds.
feat_channels = (32,)
layer_nums = (2, 3, 3)
layer_strides = (2, 2, 2)
out_channels = (32, 64, 96)
upsample_strides = (1, 2, 4)
upsample_channels = (48, 48, 48)
share_conv_channel = 48

# Boxes leave the graph as Autoware's node reads them: width before length, heading from the y axis. The network was
# trained with the x axis; the exported file turns its channels.
rot_y_axis_reference = True

# Maps become boxes by AWML's rule. "autoware" takes that of Autoware's node.
decoding = "awml"
score_threshold = 0.1
nms = "circle"
nms_threshold = 1.0
post_max_size = 100

# Figures for what is near, what is farther, and for all of it; the last pair gives the main figure.
metric = "t4"
metric_ranges = ((0, 25), (25, 50), (0, 50))

runtime_io = {
    "info_file": "data/t4dataset_town_infos_test.pkl",
    "data_root": "data",
    "sample_idx": 0,
}

# "both" also builds TensorRT engines, on a machine with an NVIDIA GPU.
export = {
    "mode": "onnx",
    "work_dir": "work_dir",
}

onnx_config = {
    "opset_version": 17,
    "simplify": True,
    "multi_file": True,
}

# Two graphs; what lies between them (the scatter onto the canvas) has no weights and is in neither.
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
                "min_shape": (1, 32, 10),
                "opt_shape": (8000, 32, 10),
                "max_shape": (12000, 32, 10),
            },
        },
    },
    "pts_backbone_neck_head": {
        "onnx_file": "pts_backbone_neck_head.onnx",
        "engine_file": "pts_backbone_neck_head.engine",
        "io": {
            "inputs": [{"name": "spatial_features"}],
            # Autoware's node reads them by place, so their order matters more than their names.
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
                "min_shape": (1, 32, 320, 320),
                "opt_shape": (1, 32, 320, 320),
                "max_shape": (1, 32, 320, 320),
            },
        },
    },
}

backend_config = {
    "common_config": {"precision_policy": "fp16", "max_workspace_size": 1 << 30},
}

# What leaves each graph may differ from the trained network's by so much; in half precision by more.
verification = {
    "enabled": True,
    "num_verify_samples": 3,
    "tolerances": {"float32/float32": 1e-3},
}

# All 24 frames.
evaluation = {
    "enabled": True,
    "num_samples": -1,
    "num_warmup": 2,
    "gates": {"mAP": {"min": 0.7, "max_drop": 0.005}},
}
