#' Which Python, and which backend
#'
#' Call it first in a session. Where reticulate installs what packages ask for (from 1.41 on), this asks for the Python
#' package; an older one is told what to run once. Keras computes with the given backend from then on.
#'
#' A Python of your own goes before: set the environment variable `RETICULATE_PYTHON`, or call
#' [reticulate::use_virtualenv()], and `pip install` there what this function returns.
#'
#' @param backend What Keras computes with. An environment variable `KERAS_BACKEND` that is set goes before.
#' @param extras What else is wanted of the Python package, such as its fastest engine for [classify()] and the like.
#' @return What Python is to install, invisibly.
#' @examples
#' \dontrun{
#' configure_python("torch")
#' }
#' @export
configure_python <- function(backend = c("jax", "tensorflow", "torch"), extras = "openvino") {
  given <- Sys.getenv("KERAS_BACKEND")
  backend <- if (missing(backend) && nzchar(given)) given else match.arg(backend)
  if (reticulate::py_available()) {
    argument_error(
      "Python is already running: %s. R can start only one: restart R and call configure_python() first.",
      reticulate::py_config()$python
    )
  }
  if (nzchar(given) && given != backend) {
    argument_error(
      "KERAS_BACKEND is %s in the environment, and %s was asked for. Change one of the two.",
      dQuote(given, FALSE), dQuote(backend, FALSE)
    )
  }
  Sys.setenv(KERAS_BACKEND = backend)
  wanted <- sprintf("convnext[%s]", paste(c(backend, extras), collapse = ","))
  if ("py_require" %in% getNamespaceExports("reticulate")) {
    getExportedValue("reticulate", "py_require")(wanted, python_version = ">=3.11")
  } else {
    message(
      "reticulate ", utils::packageVersion("reticulate"), " installs nothing by itself (1.41 and later do).\n",
      "Run once:\n",
      "    reticulate::virtualenv_create(\"r-convnext\", version = \">=3.11\", packages = \"", wanted, "\")\n",
      "and in each session, before anything else:\n",
      "    reticulate::use_virtualenv(\"r-convnext\")"
    )
  }
  invisible(wanted)
}

#' Whether Python has packages
#'
#' Looks for them without importing them: what starts in seconds is started when it is needed.
#'
#' @param ... Names of Python packages.
#' @return Whether all of them are there; `FALSE` where there is no Python.
#' @examples
#' \dontrun{
#' python_has("convnext", "keras")
#' }
#' @export
python_has <- function(...) {
  find <- tryCatch(reticulate::import("importlib.util")$find_spec, error = function(problem) NULL)
  !is.null(find) && all(vapply(c(...), function(name) !is.null(find(name)), TRUE))
}
