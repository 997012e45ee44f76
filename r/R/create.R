# The package's own functions: more sizes, any shape, any checkpoint by name.

creator <- function(python_name, layer_scale_init_value) {
  build <- function(variant,
                    num_classes = 1000L,
                    input_shape = NULL,
                    include_top = TRUE,
                    pooling = NULL,
                    drop_rate = 0,
                    drop_path_rate = 0,
                    layer_scale_init_value,
                    classifier_activation = "softmax",
                    include_preprocessing = FALSE,
                    head_init_scale = 1,
                    weights = NULL,
                    head = c("keep", "new"),
                    output_stride = NULL,
                    name = NULL) {
    arguments <- list(
      variant = variant,
      num_classes = as_whole(num_classes, "num_classes"),
      input_shape = as_shape(input_shape, "input_shape"),
      include_top = as_flag(include_top, "include_top"),
      pooling = pooling,
      drop_rate = drop_rate,
      drop_path_rate = drop_path_rate,
      layer_scale_init_value = layer_scale_init_value,
      classifier_activation = classifier_activation,
      include_preprocessing = as_flag(include_preprocessing, "include_preprocessing"),
      head_init_scale = head_init_scale,
      weights = as_path(weights),
      head = match.arg(head),
      output_stride = if (!is.null(output_stride)) as_whole(output_stride, "output_stride"),
      name = name
    )
    model <- from_python({
      load_torch()
      build <- do.call(`$`, list(module("convnext", convert = TRUE), python_name))
      do.call(build, arguments)
    })
    as_model(model, include_preprocessing)
  }
  formals(build)["layer_scale_init_value"] <- list(layer_scale_init_value)
  build
}

#' ConvNeXt V1 and V2 with every choice open
#'
#' @param variant The size: `"atto"`, `"femto"`, `"pico"`, `"nano"`, `"tiny"`, `"small"`, `"base"`, `"large"`, or
#'   `"xlarge"` of V1 and `"huge"` of V2.
#' @param num_classes How many classes the classifier has.
#' @param input_shape Height, width and channels of a picture; `NULL` for `c(224, 224, 3)`, `NA` for sides left open,
#'   from 32 pixels on. A small fixed size, from 8 pixels on, has smaller strides and the same parameters, so that
#'   weights fit at every size.
#' @param include_top Whether the model ends in the classifier.
#' @param pooling `"avg"`, `"max"`, or `"avgmax"` for the mean of both. Without the top the normalised pooled vector comes
#'   out, and with `NULL` the last feature map; with the top `NULL` means `"avg"`, for which weights were trained.
#' @param drop_rate Probability with which training drops each number that is classified.
#' @param drop_path_rate Stochastic depth of the last block; it rises in a line from 0 at the first.
#' @param layer_scale_init_value Where layer scale starts; `NULL` or 0 for none.
#' @param classifier_activation `"softmax"` for probabilities, `NULL` for logits, or any activation of Keras.
#' @param include_preprocessing Whether the model takes pixels from 0 to 255 and normalises them itself.
#' @param head_init_scale Multiplies the initial weights of the classifier; 0.001 for fine-tuning.
#' @param weights `NULL` for random weights, the name of a published checkpoint (see [list_models()]), `"imagenet"` for
#'   the default one, `"bundled"` for what comes along (V2 Atto with 10 classes), or the path of a weights file.
#' @param head `"new"` leaves the classifier random and takes the rest from `weights`, to train on other classes.
#' @param output_stride 8 or 16 for a last feature map of an eighth or a sixteenth of each side, by dilation; `NULL` for
#'   the published strides.
#' @param name Name of the model; that of the size by default.
#' @return A Keras model, as [application_convnext_tiny()] returns.
#' @examplesIf python_has("convnext", "keras")
#' model <- create_convnext_v2("atto", 10, c(32, 32, 3), weights = "bundled", include_preprocessing = TRUE)
#' cat <- read_pictures(system.file("extdata", "chelsea.jpg", package = "convnext"), size = 32)
#' round(predict(model, cat), 2)
#' @export
create_convnext_v1 <- creator("create_convnext_v1", layer_scale_init_value = 1e-6)

#' @rdname create_convnext_v1
#' @export
create_convnext_v2 <- creator("create_convnext_v2", layer_scale_init_value = NULL)
