"""One tensor of each kind of the tiny model, as each library spells it: written by hand."""

import pytest

from convnext.architecture import VARIANTS
from convnext.segmentation import SegmentationHead
from convnext.weights.canonical import (
    FEATURES,
    decoder_shapes,
    feature_norm_shapes,
    parameter_shapes,
)
from convnext.weights.layouts import LAYOUTS, foreign_rows

SPELLINGS = {
    "facebook": """
        stem_conv.kernel                   downsample_layers.0.0.weight                 96 3 4 4
        stem_norm.gamma                    downsample_layers.0.1.weight                 96
        downsample_1_norm.beta             downsample_layers.1.0.bias                   96
        downsample_3_conv.kernel           downsample_layers.3.1.weight                 768 384 2 2
        stage_2_block_1.dwconv.kernel      stages.2.1.dwconv.weight                     384 1 7 7
        stage_2_block_1.norm.gamma         stages.2.1.norm.weight                       384
        stage_2_block_1.pwconv1.kernel     stages.2.1.pwconv1.weight                    1536 384
        stage_2_block_1.grn.gamma          stages.2.1.grn.gamma                         1 1 1 1536
        stage_2_block_1.grn.beta           stages.2.1.grn.beta                          1 1 1 1536
        stage_2_block_1.pwconv2.bias       stages.2.1.pwconv2.bias                      384
        stage_2_block_1.layer_scale.gamma  stages.2.1.gamma                             384
        feature_0_norm.gamma               norm0.weight                                 96
        feature_3_norm.beta                norm3.bias                                   768
        head_norm.gamma                    norm.weight                                  768
        head.kernel                        head.weight                                  1000 768
    """,
    "dinov3": """
        stem_conv.kernel                   model.stages.0.downsample_layers.0.weight    96 3 4 4
        stem_norm.gamma                    model.stages.0.downsample_layers.1.weight    96
        downsample_1_norm.beta             model.stages.1.downsample_layers.0.bias      96
        downsample_3_conv.kernel           model.stages.3.downsample_layers.1.weight    768 384 2 2
        stage_2_block_1.dwconv.kernel      model.stages.2.layers.1.depthwise_conv.weight   384 1 7 7
        stage_2_block_1.norm.gamma         model.stages.2.layers.1.layer_norm.weight    384
        stage_2_block_1.pwconv1.kernel     model.stages.2.layers.1.pointwise_conv1.weight  1536 384
        stage_2_block_1.pwconv2.bias       model.stages.2.layers.1.pointwise_conv2.bias    384
        stage_2_block_1.layer_scale.gamma  model.stages.2.layers.1.gamma                384
        head_norm.gamma                    layer_norm.weight                            768
    """,
    "fcmae": """
        stem_conv.kernel                   encoder.downsample_layers.0.0.weight         96 3 4 4
        stem_norm.gamma                    encoder.downsample_layers.0.1.weight         96
        downsample_1_norm.beta             encoder.downsample_layers.1.0.ln.bias        96
        downsample_3_conv.kernel           encoder.downsample_layers.3.1.kernel         4 384 768
        downsample_3_conv.bias             encoder.downsample_layers.3.1.bias           1 768
        stage_2_block_1.dwconv.kernel      encoder.stages.2.1.dwconv.kernel             49 384
        stage_2_block_1.dwconv.bias        encoder.stages.2.1.dwconv.bias               1 384
        stage_2_block_1.norm.gamma         encoder.stages.2.1.norm.ln.weight            384
        stage_2_block_1.pwconv1.kernel     encoder.stages.2.1.pwconv1.linear.weight     1536 384
        stage_2_block_1.grn.gamma          encoder.stages.2.1.grn.gamma                 1 1536
        stage_2_block_1.pwconv2.bias       encoder.stages.2.1.pwconv2.linear.bias       384
        decoder_proj.kernel                proj.weight                                  512 768 1 1
        decoder_mask.token                 mask_token                                   1 512 1 1
        decoder_block_0.grn.beta           decoder.0.grn.beta                           1 1 1 2048
        decoder_pred.kernel                pred.weight                                  3072 512 1 1
    """,
    "isotropic": """
        stem_conv.kernel                   stem.weight                                  1024 3 16 16
        stage_0_block_1.dwconv.kernel      blocks.1.dwconv.weight                       1024 1 7 7
        stage_0_block_1.norm.gamma         blocks.1.norm.weight                         1024
        stage_0_block_1.pwconv1.kernel     blocks.1.pwconv1.weight                      4096 1024
        stage_0_block_1.pwconv2.bias       blocks.1.pwconv2.bias                        1024
        stage_0_block_1.layer_scale.gamma  blocks.1.gamma                               1024
        head_norm.gamma                    norm.weight                                  1024
        head.kernel                        head.weight                                  1000 1024
    """,
    "huggingface": """
        stem_conv.kernel                   embeddings.patch_embeddings.weight           96 3 4 4
        stem_norm.gamma                    embeddings.layernorm.weight                  96
        downsample_1_norm.beta             encoder.stages.1.downsampling_layer.0.bias   96
        downsample_3_conv.kernel           encoder.stages.3.downsampling_layer.1.weight 768 384 2 2
        stage_2_block_1.dwconv.kernel      encoder.stages.2.layers.1.dwconv.weight      384 1 7 7
        stage_2_block_1.norm.gamma         encoder.stages.2.layers.1.layernorm.weight   384
        stage_2_block_1.pwconv1.kernel     encoder.stages.2.layers.1.pwconv1.weight     1536 384
        stage_2_block_1.grn.gamma          encoder.stages.2.layers.1.grn.weight         1 1 1 1536
        stage_2_block_1.grn.beta           encoder.stages.2.layers.1.grn.bias           1 1 1 1536
        stage_2_block_1.pwconv2.bias       encoder.stages.2.layers.1.pwconv2.bias       384
        stage_2_block_1.layer_scale.gamma  encoder.stages.2.layers.1.layer_scale_parameter  384
        feature_stem_norm.gamma            hidden_states_norms.stem.weight              96
        feature_3_norm.beta                hidden_states_norms.stage4.bias              768
        head_norm.gamma                    layernorm.weight                             768
        head.kernel                        classifier.weight                            1000 768
    """,
    "dinov3_facebook": """
        stem_conv.kernel                   downsample_layers.0.0.weight                 96 3 4 4
        downsample_1_norm.beta             downsample_layers.1.0.bias                   96
        stage_2_block_1.dwconv.kernel      stages.2.1.dwconv.weight                     384 1 7 7
        stage_2_block_1.layer_scale.gamma  stages.2.1.gamma                             384
        head_norm.gamma                    norm.weight                                  768
    """,
    "open_clip": """
        stem_conv.kernel                   visual.trunk.stem.0.weight                   96 3 4 4
        downsample_1_norm.beta             visual.trunk.stages.1.downsample.0.bias      96
        stage_2_block_1.dwconv.kernel      visual.trunk.stages.2.blocks.1.conv_dw.weight  384 1 7 7
        stage_2_block_1.layer_scale.gamma  visual.trunk.stages.2.blocks.1.gamma         384
        head_norm.gamma                    visual.trunk.head.norm.weight                768
        head.kernel                        visual.head.proj.weight                      1000 768
    """,
    "timm": """
        stem_conv.kernel                   stem.0.weight                                96 3 4 4
        stem_norm.gamma                    stem.1.weight                                96
        downsample_1_norm.beta             stages.1.downsample.0.bias                   96
        downsample_3_conv.kernel           stages.3.downsample.1.weight                 768 384 2 2
        stage_2_block_1.dwconv.kernel      stages.2.blocks.1.conv_dw.weight             384 1 7 7
        stage_2_block_1.norm.gamma         stages.2.blocks.1.norm.weight                384
        stage_2_block_1.pwconv1.kernel     stages.2.blocks.1.mlp.fc1.weight             1536 384
        stage_2_block_1.grn.gamma          stages.2.blocks.1.mlp.grn.weight             1536
        stage_2_block_1.grn.beta           stages.2.blocks.1.mlp.grn.bias               1536
        stage_2_block_1.pwconv2.bias       stages.2.blocks.1.mlp.fc2.bias               384
        stage_2_block_1.layer_scale.gamma  stages.2.blocks.1.gamma                      384
        head_norm.gamma                    head.norm.weight                             768
        head.kernel                        head.fc.weight                               1000 768
    """,
    "torchvision": """
        stem_conv.kernel                   features.0.0.weight                          96 3 4 4
        stem_norm.gamma                    features.0.1.weight                          96
        downsample_1_norm.beta             features.2.0.bias                            96
        downsample_3_conv.kernel           features.6.1.weight                          768 384 2 2
        stage_2_block_1.dwconv.kernel      features.5.1.block.0.weight                  384 1 7 7
        stage_2_block_1.norm.gamma         features.5.1.block.2.weight                  384
        stage_2_block_1.pwconv1.kernel     features.5.1.block.3.weight                  1536 384
        stage_2_block_1.pwconv2.bias       features.5.1.block.5.bias                    384
        stage_2_block_1.layer_scale.gamma  features.5.1.layer_scale                     384 1 1
        head_norm.gamma                    classifier.0.weight                          768
        head.kernel                        classifier.2.weight                          1000 768
    """,
    "mmpretrain": """
        stem_conv.kernel                   downsample_layers.0.0.weight                 96 3 4 4
        stem_norm.gamma                    downsample_layers.0.1.weight                 96
        downsample_1_norm.beta             downsample_layers.1.0.bias                   96
        downsample_3_conv.kernel           downsample_layers.3.1.weight                 768 384 2 2
        stage_2_block_1.dwconv.kernel      stages.2.1.depthwise_conv.weight             384 1 7 7
        stage_2_block_1.norm.gamma         stages.2.1.norm.weight                       384
        stage_2_block_1.pwconv1.kernel     stages.2.1.pointwise_conv1.weight            1536 384
        stage_2_block_1.grn.gamma          stages.2.1.grn.gamma                         1536
        stage_2_block_1.grn.beta           stages.2.1.grn.beta                          1536
        stage_2_block_1.pwconv2.bias       stages.2.1.pointwise_conv2.bias              384
        stage_2_block_1.layer_scale.gamma  stages.2.1.gamma                             384
        feature_0_norm.gamma               norm0.weight                                 96
        feature_3_norm.beta                norm3.bias                                   768
        head_norm.gamma                    norm3.weight                                 768
        head.kernel                        !head.fc.weight                              1000 768
    """,
    "keras_applications": """
        stem_conv.kernel                   stem/@stem_conv/kernel                       4 4 3 96
        stem_norm.gamma                    stem/@stem_layernorm/gamma                   96
        downsample_1_norm.beta             downsampling_block_0/@downsampling_layernorm_0/beta  96
        downsample_3_conv.kernel  downsampling_block_2/@downsampling_conv_2/kernel  2 2 384 768
        stage_2_block_1.dwconv.kernel      stage_2_block_1_depthwise_conv/kernel        7 7 1 384
        stage_2_block_1.norm.gamma         stage_2_block_1_layernorm/gamma              384
        stage_2_block_1.pwconv1.kernel     stage_2_block_1_pointwise_conv_1/kernel      384 1536
        stage_2_block_1.pwconv2.bias       stage_2_block_1_pointwise_conv_2/bias        384
        stage_2_block_1.layer_scale.gamma  stage_2_block_1_layer_scale/gamma            384
        head_norm.gamma                    head_layernorm/gamma                         768
        head.kernel                        head_dense/kernel                            768 1000
    """,
    "kecam": """
        stem_conv.kernel                   stem_conv/kernel                             4 4 3 96
        stem_norm.gamma                    stem_ln/gamma                                96
        downsample_1_norm.beta             stack2_downsample_ln/beta                    96
        downsample_3_conv.kernel           stack4_downsample_conv/kernel                2 2 384 768
        stage_2_block_1.dwconv.kernel      stack3_block2_dw_conv/kernel                 7 7 384 1
        stage_2_block_1.norm.gamma         stack3_block2_ln/gamma                       384
        stage_2_block_1.pwconv1.kernel     stack3_block2_up_dense/kernel                384 1536
        stage_2_block_1.grn.gamma          stack3_block2_grn_gamma/weight               1536
        stage_2_block_1.grn.beta           stack3_block2_grn_gamma/bias                 1536
        stage_2_block_1.pwconv2.bias       stack3_block2_down_dense/bias                384
        stage_2_block_1.layer_scale.gamma  stack3_block2_gamma/weight                   384
        head_norm.gamma                    head_ln/gamma                                768
        head.kernel                        predictions/kernel                           768 1000
    """,
}


def rows():
    for layout, table in SPELLINGS.items():
        for line in table.strip().splitlines():
            canonical, foreign, *shape = line.split()
            yield layout, canonical, foreign, tuple(map(int, shape))


def test_every_layout_of_names_is_here():
    assert set(SPELLINGS) == set(LAYOUTS) - {"convnext", "tf_hub"}


@pytest.mark.parametrize(("layout", "canonical", "foreign", "shape"), list(rows()))
def test_spelling(layout, canonical, foreign, shape):
    grn = layout == "fcmae" or ".grn." in canonical
    variant = VARIANTS["convnextv2_tiny" if grn else "convnext_tiny"]
    if layout == "isotropic":
        variant = VARIANTS["convnext_isotropic_large"]
    features = FEATURES[: 1 + len(variant.depths)]
    shapes = parameter_shapes(variant) | feature_norm_shapes(variant, features)
    shapes |= decoder_shapes(variant)
    rows = foreign_rows({canonical: shapes[canonical]}, layout, variant)
    prefix = {"keras_applications": "convnext_tiny_", "mmpretrain": "backbone."}.get(layout, "")
    spelled = prefix + foreign.replace("@", prefix)
    assert rows[canonical].foreign == spelled.rpartition("!")[2]  # behind which there is no prefix
    assert rows[canonical].move.written_shape(shapes[canonical]) == shape


@pytest.mark.parametrize(
    ("variant", "prefix"), [("convnext_tiny", "convnext."), ("convnextv2_tiny", "convnextv2.")]
)
def test_a_classifier_of_transformers_keeps_its_encoder_under_a_prefix(variant, prefix):
    shapes = parameter_shapes(VARIANTS[variant])
    names = {row.foreign for row in foreign_rows(shapes, "huggingface", VARIANTS[variant]).values()}
    outside = {"classifier.weight", "classifier.bias"}
    assert {name for name in names if not name.startswith(prefix)} == outside


@pytest.mark.parametrize("size", ["atto", "femto", "pico", "nano"])
@pytest.mark.parametrize("family", ["convnext", "convnextv2"])
def test_small_models_of_timm_have_convolutions_for_linear_layers(family, size):
    variant = VARIANTS[f"{family}_{size}"]
    shapes = parameter_shapes(variant)
    row = foreign_rows(shapes, "timm", variant)["stage_0_block_0.pwconv1.kernel"]
    wide = (4 * variant.dims[0], variant.dims[0], 1, 1)
    assert row.move.written_shape(shapes["stage_0_block_0.pwconv1.kernel"]) == wide


# ---- UPerNet: transformers' names, and mmsegmentation's, which the authors have as well

UPERNETS = {
    "huggingface": """
        stem_conv.kernel                 backbone.embeddings.patch_embeddings.weight  96 3 4 4
        stage_2_block_1.pwconv1.kernel   backbone.encoder.stages.2.layers.1.pwconv1.weight  1536 384
        feature_0_norm.gamma             backbone.hidden_states_norms.stage1.weight  96
        segment_pool_3_conv.kernel       decode_head.psp_modules.3.1.conv.weight  512 768 1 1
        segment_pool_0_norm.moving_mean  decode_head.psp_modules.0.1.batch_norm.running_mean  512
        segment_context_conv.kernel      decode_head.bottleneck.conv.weight  512 2816 3 3
        segment_lateral_2_norm.beta      decode_head.lateral_convs.2.batch_norm.bias  512
        segment_smooth_1_conv.kernel     decode_head.fpn_convs.1.conv.weight  512 512 3 3
        segment_fuse_norm.moving_variance  decode_head.fpn_bottleneck.batch_norm.running_var  512
        segment_classify.kernel          decode_head.classifier.weight  150 512 1 1
        auxiliary_conv.kernel            auxiliary_head.convs.0.conv.weight  256 384 3 3
        auxiliary_norm.gamma             auxiliary_head.convs.0.batch_norm.weight  256
        auxiliary_classify.bias          auxiliary_head.classifier.bias  150
    """,
    "mmpretrain": """
        stem_conv.kernel                 backbone.downsample_layers.0.0.weight  96 3 4 4
        stage_2_block_1.pwconv1.kernel   backbone.stages.2.1.pointwise_conv1.weight  1536 384
        feature_3_norm.gamma             backbone.norm3.weight  768
        segment_pool_3_conv.kernel       decode_head.psp_modules.3.1.conv.weight  512 768 1 1
        segment_pool_0_norm.moving_mean  decode_head.psp_modules.0.1.bn.running_mean  512
        segment_context_conv.kernel      decode_head.bottleneck.conv.weight  512 2816 3 3
        segment_lateral_2_norm.beta      decode_head.lateral_convs.2.bn.bias  512
        segment_smooth_1_conv.kernel     decode_head.fpn_convs.1.conv.weight  512 512 3 3
        segment_fuse_norm.moving_variance  decode_head.fpn_bottleneck.bn.running_var  512
        segment_classify.kernel          decode_head.conv_seg.weight  150 512 1 1
        auxiliary_conv.kernel            auxiliary_head.convs.0.conv.weight  256 384 3 3
        auxiliary_norm.gamma             auxiliary_head.convs.0.bn.weight  256
        auxiliary_classify.bias          auxiliary_head.conv_seg.bias  150
    """,
    "facebook": """
        stage_2_block_1.pwconv1.kernel   backbone.stages.2.1.pwconv1.weight  1536 384
        feature_0_norm.gamma             backbone.norm0.weight  96
        segment_fuse_norm.moving_variance  decode_head.fpn_bottleneck.bn.running_var  512
        segment_classify.kernel          decode_head.conv_seg.weight  150 512 1 1
    """,
}
HEAD = SegmentationHead("upernet", auxiliary=256)


@pytest.mark.parametrize("layout", UPERNETS)
def test_spelling_of_a_upernet(layout):
    variant = VARIANTS["convnext_tiny"]
    shapes = parameter_shapes(variant, 150, segmentation=HEAD)
    rows = foreign_rows(shapes, layout, variant)
    for line in UPERNETS[layout].strip().splitlines():
        canonical, foreign, *shape = line.split()
        row = rows[canonical]
        found = (row.foreign, row.move.written_shape(shapes[canonical]))
        assert found == (foreign, tuple(map(int, shape)))
