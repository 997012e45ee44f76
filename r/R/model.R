# Keras models: what R needs to see in one, and what R's generics do with it.

# `keras3` finds what is to be done to pictures, and what predictions mean, in the same two attributes.
as_model <- function(model, include_preprocessing) {
  attr(model, "preprocess_input") <- if (include_preprocessing) as_they_are else imagenet_preprocess_input
  attr(model, "decode_predictions") <- decode_predictions
  class(model) <- c("convnext_model", class(model))
  model
}

#' Predict with, and summarise, a Keras model of this package
#'
#' Where the package keras3 is loaded, its own methods are called. Without it, these are all that is needed to
#' use a model; the methods of the Python object, such as `model$save("model.keras")`, are there as well.
#'
#' @param object A model from [create_convnext_v1()], [application_convnext_tiny()] and the like.
#' @param x Pictures: an array of pictures, rows, columns and channels, as [read_pictures()] gives it.
#' @param batch_size How many pictures are computed at once.
#' @param ... For `predict()`, nothing; for `summary()`, arguments of Keras, such as `expand_nested = TRUE`.
#' @return `predict()`: a matrix with a row for each picture or, without the top and pooling, an array. `summary()`
#'   prints a table and returns the model invisibly.
#' @examplesIf python_has("convnext", "keras")
#' model <- application_convnext_v2_atto(weights = NULL, classes = 3L, input_shape = c(32, 32, 3))
#' x <- array(runif(2 * 32 * 32 * 3, 0, 255), c(2, 32, 32, 3))
#' predict(model, x)
#' @importFrom stats predict
#' @export
predict.convnext_model <- function(object, x, batch_size = 32L, ...) {
  if (isNamespaceLoaded("keras3")) return(NextMethod())
  call <- sys.call()
  check_pictures(x, as_r(object$input_shape), call)
  from_python(call = call, {
    predict <- reticulate::py_get_attr(object, "predict")
    x <- as_numpy_array(x)
    as_r_array(reticulate::py_call(predict, x, batch_size = as_whole(batch_size, "batch_size", call), verbose = 0L))
  })
}

#' @rdname predict.convnext_model
#' @export
summary.convnext_model <- function(object, ...) {
  if (isNamespaceLoaded("keras3")) return(NextMethod())
  cat(from_python(reticulate::py_capture_output(object$summary(...))))
  invisible(object)
}

check_pictures <- function(x, shape, call) {
  wanted <- vapply(shape, function(side) if (is.null(side)) NA_integer_ else side, 1L)
  fits <- is.array(x) && is.numeric(x) && length(dim(x)) == length(wanted) &&
    all(is.na(wanted) | dim(x) == wanted)
  if (!fits) {
    argument_error(
      "`x` is an array of numbers of %s, not %s.",
      paste(ifelse(is.na(wanted), "any", wanted), collapse = " x "),
      if (is.null(dim(x))) class(x)[1] else paste(dim(x), collapse = " x "),
      call = call
    )
  }
  if (anyNA(x)) argument_error("`x` has missing values: a picture has a number for each pixel.", call = call)
}
