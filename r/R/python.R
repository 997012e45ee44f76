# The way into Python: its modules, its errors as R conditions, and R's values in its types.

# A module, imported when it is first needed. With `convert`, what it returns becomes R's where reticulate can.
module <- function(name, convert = FALSE) {
  tryCatch(
    reticulate::import(name, convert = convert),
    error = function(problem) {
      raised <- if (reticulate::py_available()) reticulate::py_last_error()
      reason <- if (is.null(raised)) conditionMessage(problem) else raised$value
      text <- sprintf("Python cannot import %s: %s\nconfigure_python() says how to install it.", name, reason)
      stop(error_condition(text, "convnext_missing_dependency_error", call = NULL))
    }
  )
}

# Every library in R's process looks for a BLAS in R's first, and so would PyTorch: with the reference BLAS its matrix
# products take 13 times as long. Loaded like this, it finds its own. To be called before Keras is imported.
load_torch <- function(backend_by_default = "tensorflow") {
  os <- module("os", convert = TRUE)
  backend <- os$environ$get("KERAS_BACKEND", backend_by_default)
  if (backend == "torch" && reticulate::py_has_attr(os, "RTLD_DEEPBIND") && python_has("torch")) {
    sys <- module("sys", convert = TRUE)
    flags <- sys$getdlopenflags()
    sys$setdlopenflags(bitwOr(flags, os$RTLD_DEEPBIND))
    on.exit(sys$setdlopenflags(flags))
    module("torch")
  }
}

# The Keras engine, which "auto" means where there is no other, chooses PyTorch unless told otherwise.
load_torch_for <- function(engine) {
  others <- identical(engine, "auto") && (python_has("openvino") || python_has("onnx", "onnxruntime"))
  if (!others && engine %in% c("auto", "keras")) load_torch("torch")
}

builtins <- function() reticulate::import_builtins(convert = FALSE)

error_condition <- function(message, classes, call) {
  structure(
    class = c(classes, "convnext_error", "error", "condition"),
    list(message = message, call = call)
  )
}

argument_error <- function(..., call = sys.call(-1)) {
  stop(error_condition(sprintf(...), "convnext_argument_error", call))
}

# Run code that calls Python. What Python raises becomes a condition with the message that was meant for people, the
# R function they called, and no traceback; `reticulate::py_last_error()` still has that.
from_python <- function(code, call = sys.call(-1)) {
  if (reticulate::py_available()) reticulate::py_clear_last_error()
  tryCatch(code, error = function(problem) {
    from_r <- inherits(problem, "convnext_error") || !reticulate::py_available()
    raised <- if (!from_r) reticulate::py_last_error()
    if (is.null(raised)) stop(problem)
    ours <- grep("^convnext\\.errors\\.", class(attr(raised, "exception")), value = TRUE)
    if (length(ours) == 0) {
      message <- paste0(raised$type, ": ", raised$value)
      stop(structure(class = c("python_error", "error", "condition"), list(message = message, call = call)))
    }
    stop(error_condition(raised$value, condition_classes(ours), call))
  })
}

# "convnext.errors.UnknownNameError" to "convnext_unknown_name_error"; the root is the class that all have anyway.
condition_classes <- function(python_classes) {
  names <- setdiff(sub(".*\\.", "", python_classes), "ConvNeXtError")
  paste0("convnext_", tolower(gsub("(?<=[a-z])(?=[A-Z])", "_", names, perl = TRUE)))
}

# From each of a Python iterable's items one attribute ("attrgetter") or place ("itemgetter"), as a vector in which
# None is NA; or, not converted, as a Python list.
picked <- function(items, getter, which, convert = TRUE) {
  get <- reticulate::py_get_attr(module("operator"), getter)
  values <- builtins()$list(builtins()$map(reticulate::py_call(get, which), items))
  if (!convert) return(values)
  unlist(lapply(as_r(values), function(value) if (is.null(value)) NA else value))
}

# What Python gave, converted unless it is already.
as_r <- function(x) if (inherits(x, "python.builtin.object")) reticulate::py_to_r(x) else x

# R's numbers are doubles unless someone wrote the L, and Python tells 10.0 from 10.
as_whole <- function(x, name, call = sys.call(-1)) {
  if (!is.numeric(x)) return(x)
  if (length(x) != 1 || is.na(x) || x != round(x) || abs(x) > .Machine$integer.max) {
    argument_error("`%s` is one whole number, not %s.", name, deparse1(x), call = call)
  }
  as.integer(x)
}

as_flag <- function(x, name, call = sys.call(-1)) {
  if (isTRUE(x) || isFALSE(x)) return(x)
  argument_error("`%s` is TRUE or FALSE, not %s.", name, deparse1(x), call = call)
}

# c(NA, NA, 3) or list(NULL, NULL, 3) to (None, None, 3).
as_shape <- function(x, name, call = sys.call(-1)) {
  if (is.null(x) || inherits(x, "python.builtin.object")) return(x)
  sides <- lapply(as.list(unname(x)), function(side) if (!is.null(side) && !anyNA(side)) side)
  whole <- function(side) is.null(side) || (is.numeric(side) && length(side) == 1 && side == round(side))
  if (!all(vapply(sides, whole, TRUE))) {
    argument_error("`%s` has whole numbers and NA, not %s.", name, deparse1(x), call = call)
  }
  reticulate::tuple(lapply(sides, function(side) if (!is.null(side)) as.integer(side)))
}

# A path as Python takes it, or whatever else was given.
as_path <- function(x) if (is.character(x)) path.expand(x) else x
