#' convnext: the ConvNeXt family of image models
#'
#' The door from R to the Python package of the same name.
#'
#' * [configure_python()] says which Python is used, or what to install.
#' * [classify()], [embed()], [explain()] and [evaluate()] go from picture files to answers, with a published
#'   checkpoint ([list_models()]), a file of weights, or `"bundled"`, a small model that comes along.
#' * [application_convnext_tiny()] and the others are the functions of the package keras3, and the same for V2;
#'   [create_convnext_v1()] and [create_convnext_v2()] leave more open. They return Keras models.
#'
#' An error that Python raises on purpose is an R condition of class `convnext_error`, and of a narrower one such
#' as `convnext_argument_error`, `convnext_weights_mismatch_error` or `convnext_weights_unavailable_error`.
#'
#' @keywords internal
"_PACKAGE"
