"""MMDetection-style `test_pipeline` lists as functions, with no OpenMMLab package.

`build_preprocessing_pipeline(model_config)` makes one function of a list such as

    test_pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(960, 960), keep_ratio=True),
        dict(type="Pad", pad_to_square=True, pad_val=114),
        dict(type="mmdet.PackDetInputs"),
    ]

and the `data_preprocessor` of the model. It takes a dict (`img_path` or an `img` that is loaded already, `lidar_points`
or `points`) and answers one with `inputs`, a numpy array of one sample, and `data_samples`, a dict with what the
`Pack...` transform keeps (`ori_shape`, `img_shape`, `scale_factor` ...). What a test pipeline must not do, chance, is
refused. `register_transform` adds transforms of your own.
"""

from __future__ import annotations

from awml_deploy_core.preprocess.build import build_preprocessing_pipeline
from awml_deploy_core.preprocess.registry import Transform, register_transform

__all__ = ["Transform", "build_preprocessing_pipeline", "register_transform"]
