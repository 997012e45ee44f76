#' Pixels to what a model takes, and its answers to names
#'
#' `application_preprocess_inputs()` does what is left to do for a model: nothing where it was made with
#' `include_preprocessing = TRUE`, else `imagenet_preprocess_input()`. Models of keras3 are treated as there.
#'
#' The names of ImageNet's classes are built in: nothing is downloaded.
#'
#' @param model A model of an `application_` function, or of [create_convnext_v1()] or [create_convnext_v2()].
#' @param x Pictures: an array of rows, columns and channels, of one picture or, with a first index more, of several.
#'   Pixels go from 0 to 255.
#' @param preds Predictions: a matrix with a row for each picture and ImageNet's 1000 columns.
#' @param ... Given on to the function of the model.
#' @param data_format `"channels_last"`, which `NULL` means, or `"channels_first"`.
#' @param mode `"torch"` scales to 0..1 and normalises with ImageNet's statistics, as ConvNeXt was trained with;
#'   `"tf"` scales to -1..1; `"caffe"`, for other models, swaps red and blue and subtracts means. keras has `"caffe"`
#'   for default.
#' @param top How many classes.
#' @return `application_decode_predictions()`: for each picture a data frame with the columns `class_name` (the
#'   WordNet id), `class_description` and `score`, best first. The others: an array like `x`.
#' @examplesIf python_has("convnext", "keras")
#' model <- create_convnext_v1("atto", input_shape = c(32, 32, 3))
#' pixels <- array(runif(32 * 32 * 3, 0, 255), c(1, 32, 32, 3))
#' preds <- predict(model, application_preprocess_inputs(model, pixels))
#' application_decode_predictions(model, preds, top = 3)
#' @export
application_preprocess_inputs <- function(model, x, ..., data_format = NULL) {
  preprocess <- attr(model, "preprocess_input")
  if (is.null(preprocess)) argument_error(NOT_OURS)
  preprocess(x, data_format = data_format, ...)
}

#' @rdname application_preprocess_inputs
#' @export
application_decode_predictions <- function(model, preds, top = 5L, ...) {
  decode <- attr(model, "decode_predictions")
  if (is.null(decode)) argument_error(NOT_OURS)
  decode(preds, top = as_whole(top, "top"), ...)
}

#' @rdname application_preprocess_inputs
#' @export
imagenet_preprocess_input <- function(x, data_format = NULL, mode = c("torch", "tf", "caffe")) {
  mode <- match.arg(mode)
  data_format <- match.arg(data_format, c("channels_last", "channels_first"))
  rank <- length(dim(x))
  axis <- if (data_format == "channels_last") rank else rank - 2
  if (!is.numeric(x) || !rank %in% 3:4 || dim(x)[axis] != 3) {
    argument_error(
      "`x` is an array of numbers with 3 or 4 dimensions and 3 channels (%s), not %s.",
      data_format, if (is.null(dim(x))) class(x)[1] else paste(dim(x), collapse = " x ")
    )
  }
  if (mode == "tf") return(x / 127.5 - 1)
  if (mode == "torch") return(sweep(sweep(x / 255, axis, IMAGENET_MEAN), axis, IMAGENET_STD, "/"))
  channels <- rep(list(TRUE), rank)
  channels[[axis]] <- 3:1
  sweep(do.call(`[`, c(list(x), channels, list(drop = FALSE))), axis, CAFFE_MEAN)
}

IMAGENET_MEAN <- c(0.485, 0.456, 0.406)
IMAGENET_STD <- c(0.229, 0.224, 0.225)
CAFFE_MEAN <- c(103.939, 116.779, 123.68) # blue, green, red
NOT_OURS <- "`model` is not of an application_ function, create_convnext_v1() or create_convnext_v2()."

as_they_are <- function(x, data_format = NULL) x

decode_predictions <- function(preds, top = 5L, call = sys.call(-1)) {
  decoded <- from_python(call = call, {
    if (!inherits(preds, "python.builtin.object")) preds <- as_numpy_array(preds)
    module("convnext.applications")$decode_predictions(preds, top)
  })
  lapply(seq_len(as_r(builtins()$len(decoded))), function(picture) {
    rows <- reticulate::py_get_item(decoded, picture - 1L)
    data.frame(
      class_name = picked(rows, "itemgetter", 0L),
      class_description = picked(rows, "itemgetter", 1L),
      score = as_r(builtins()$list(builtins()$map(builtins()$float, picked(rows, "itemgetter", 2L, FALSE))))
    )
  })
}
