# The functions of keras3 (and of keras.applications) for ConvNeXt, and the same for V2.

application <- function(python_name, name) {
  build <- function(include_top = TRUE,
                    include_preprocessing = TRUE,
                    weights = "imagenet",
                    input_tensor = NULL,
                    input_shape = NULL,
                    pooling = NULL,
                    classes = 1000L,
                    classifier_activation = "softmax",
                    name) {
    arguments <- list(
      include_top = as_flag(include_top, "include_top"),
      include_preprocessing = as_flag(include_preprocessing, "include_preprocessing"),
      weights = as_path(weights),
      input_tensor = input_tensor,
      input_shape = as_shape(input_shape, "input_shape"),
      pooling = pooling,
      classes = as_whole(classes, "classes"),
      classifier_activation = classifier_activation,
      name = name
    )
    model <- from_python({
      load_torch()
      build <- do.call(`$`, list(module("convnext.applications", convert = TRUE), python_name))
      do.call(build, arguments)
    })
    as_model(model, include_preprocessing)
  }
  formals(build)$name <- name
  build
}

#' ConvNeXt and ConvNeXt V2 as Keras models
#'
#' The functions of the package keras3, with the same arguments, and nine more for V2. Published weights of V2 may not
#' be used commercially (CC-BY-NC-4.0).
#'
#' Weights are found by the function, not by `name`. `weights = "imagenet"` is downloaded when it is first used and
#' kept; [list_models()] has all others, which [create_convnext_v1()] and [create_convnext_v2()] take by name, at every
#' size and for other classes.
#'
#' @param include_top Whether the model ends in the classifier.
#' @param include_preprocessing Whether the model takes pixels from 0 to 255 and normalises them itself.
#' @param weights `NULL` for random weights, `"imagenet"` for the default checkpoint of this size, or the path of a
#'   weights file: of Keras, PyTorch, timm, transformers or the authors.
#' @param input_tensor Keras tensor to use as the picture.
#' @param input_shape Height, width and channels of a picture; `NA` leaves a side open where there is no top. At least
#'   32 pixels. With the top and `weights = "imagenet"` it can only be `c(224, 224, 3)`, which is the default with the
#'   top.
#' @param pooling Without the top: `NULL`, `"avg"` or `"max"`.
#' @param classes How many classes the classifier has; 1000 with `weights = "imagenet"`.
#' @param classifier_activation `"softmax"` for probabilities, or `NULL` for logits; with `weights = NULL` any
#'   activation.
#' @param name Name of the model.
#' @return A Keras model. [predict()][predict.convnext_model] and [summary()][summary.convnext_model] work with and
#'   without the package keras3; with it, all it has for models does.
#' @seealso [application_preprocess_inputs()], [application_decode_predictions()]
#' @examplesIf python_has("convnext", "keras")
#' model <- application_convnext_v2_atto(
#'   weights = NULL, include_top = FALSE, input_shape = c(NA, NA, 3), pooling = "avg"
#' )
#' model$count_params()
#' @name application_convnext
NULL

#' @rdname application_convnext
#' @export
application_convnext_tiny <- application("ConvNeXtTiny", "convnext_tiny")

#' @rdname application_convnext
#' @export
application_convnext_small <- application("ConvNeXtSmall", "convnext_small")

#' @rdname application_convnext
#' @export
application_convnext_base <- application("ConvNeXtBase", "convnext_base")

#' @rdname application_convnext
#' @export
application_convnext_large <- application("ConvNeXtLarge", "convnext_large")

#' @rdname application_convnext
#' @export
application_convnext_xlarge <- application("ConvNeXtXLarge", "convnext_xlarge")

#' @rdname application_convnext
#' @export
application_convnext_v2_atto <- application("ConvNeXtV2Atto", "convnextv2_atto")

#' @rdname application_convnext
#' @export
application_convnext_v2_femto <- application("ConvNeXtV2Femto", "convnextv2_femto")

#' @rdname application_convnext
#' @export
application_convnext_v2_pico <- application("ConvNeXtV2Pico", "convnextv2_pico")

#' @rdname application_convnext
#' @export
application_convnext_v2_nano <- application("ConvNeXtV2Nano", "convnextv2_nano")

#' @rdname application_convnext
#' @export
application_convnext_v2_tiny <- application("ConvNeXtV2Tiny", "convnextv2_tiny")

#' @rdname application_convnext
#' @export
application_convnext_v2_small <- application("ConvNeXtV2Small", "convnextv2_small")

#' @rdname application_convnext
#' @export
application_convnext_v2_base <- application("ConvNeXtV2Base", "convnextv2_base")

#' @rdname application_convnext
#' @export
application_convnext_v2_large <- application("ConvNeXtV2Large", "convnextv2_large")

#' @rdname application_convnext
#' @export
application_convnext_v2_huge <- application("ConvNeXtV2Huge", "convnextv2_huge")
