#' A model that answers for pictures
#'
#' [classify()], [embed()] and [explain()] take a model's name and open it each time. To ask one more than once, open it
#' with this.
#'
#' @param model The name of a published checkpoint (see [list_models()]), `"bundled"` for the small model that comes
#'   along, the path of a weights file in any layout, or a Keras model of this package.
#' @param engine What computes: `"auto"`, `"openvino"`, `"onnxruntime"` or `"keras"`.
#' @param precision What it computes in: `"auto"`, `"float32"`, `"bfloat16"` or `"int8"`.
#' @param calibration For `"int8"`: a folder of pictures, or a file that `convnext quantize` wrote.
#' @param device The engine's name of a device.
#' @param threads How many threads; `NULL` for one on each processor.
#' @param size Side of the pictures, if not that of the weights.
#' @param labels What the classes are called, if the weights do not say or say it otherwise: a character vector, or a
#'   file.
#' @return A classifier.
#' @examplesIf python_has("convnext", "openvino")
#' cats <- classifier("bundled")
#' classify(system.file("extdata", "chelsea.jpg", package = "convnext"), cats, top = 1)
#' @export
classifier <- function(model,
                       engine = "auto",
                       precision = "auto",
                       calibration = NULL,
                       device = "auto",
                       threads = NULL,
                       size = NULL,
                       labels = NULL) {
  if (is_classifier(model)) return(model)
  threads <- as_whole(threads, "threads")
  size <- as_whole(size, "size")
  from_python({
    load_torch_for(engine)
    module("convnext")$Classifier(
      as_path(model),
      engine,
      precision = precision,
      calibration = as_path(calibration),
      device = device,
      threads = threads,
      size = size,
      labels = as_path(labels)
    )
  })
}

is_classifier <- function(x) inherits(x, "convnext.classifier.classifier.Classifier")

#' What pictures show
#'
#' A picture that cannot be read stops nothing: its row says why, and there is a warning.
#'
#' @param paths Paths of pictures, folders, archives or patterns such as `"photos/*.jpg"`, or URLs.
#' @param model What [classifier()] takes, or a classifier.
#' @param top How many classes for each picture, the most probable first. `NULL` for 5, or of a multi-label model for all
#'   labels that reach their thresholds.
#' @param batch_size How many pictures are computed at once.
#' @return A data frame with a row for each of a picture's classes:
#' \describe{
#'   \item{picture}{its path, URL or place in an archive.}
#'   \item{rank}{1 for the most probable class, and so on.}
#'   \item{class}{the number of the class, from 1. (In Python it is one less.)}
#'   \item{label}{what the class is called.}
#'   \item{probability}{from 0 to 1.}
#'   \item{wnid}{its WordNet id, or `NA` where classes have none.}
#'   \item{error}{why the picture could not be read, else `NA`.}
#' }
#' @examplesIf python_has("convnext", "openvino")
#' classify(system.file("extdata", "chelsea.jpg", package = "convnext"), "bundled", top = 3)
#' @export
classify <- function(paths, model, top = NULL, batch_size = 32L) {
  check_paths(paths)
  top <- as_whole(top, "top")
  batch_size <- as_whole(batch_size, "batch_size")
  model <- classifier(model)
  answers <- from_python(builtins()$list(model$stream(as.list(as_path(paths)), top, batch_size)))
  errors <- reading_errors(answers, sys.call())
  found <- picked(answers, "attrgetter", "classes", convert = FALSE)
  count <- as_r(builtins()$list(builtins()$map(builtins()$len, found)))
  scores <- module("itertools")$chain$from_iterable(found)
  scores <- builtins()$list(scores)
  rows <- rep(seq_along(count), pmax(count, 1))
  seen <- rep(count > 0, pmax(count, 1))
  column <- function(name, empty) {
    values <- rep(empty, length(rows))
    if (any(seen)) values[seen] <- picked(scores, "attrgetter", name)
    values
  }
  data.frame(
    picture = picked(answers, "attrgetter", "id")[rows],
    rank = ifelse(seen, sequence(pmax(count, 1)), NA_integer_),
    class = column("index", NA_integer_) + 1L,
    label = column("label", NA_character_),
    probability = column("probability", NA_real_),
    wnid = column("wnid", NA_character_),
    error = errors[rows]
  )
}

#' Pictures as vectors
#'
#' What the classifier sees of a picture: the normalised mean of the last feature map.
#'
#' @inheritParams classify
#' @return A matrix with a row for each picture, named by the picture. The row of a picture that cannot be read is `NA`,
#'   and there is a warning.
#' @examplesIf python_has("convnext", "openvino")
#' dim(embed(system.file("extdata", "chelsea.jpg", package = "convnext"), "bundled"))
#' @export
embed <- function(paths, model, batch_size = 32L) {
  check_paths(paths)
  batch_size <- as_whole(batch_size, "batch_size")
  model <- classifier(model)
  answers <- from_python(builtins()$list(model$embed_stream(as.list(as_path(paths)), batch_size)))
  seen <- is.na(reading_errors(answers, sys.call()))
  width <- as_r(model$variant$dims)[[4]]
  vectors <- matrix(NA_real_, length(seen), width, dimnames = list(picked(answers, "attrgetter", "id"), NULL))
  found <- lapply(which(seen) - 1L, function(place) reticulate::py_get_item(answers, place)$vector)
  if (any(seen)) vectors[seen, ] <- as_r_array(numpy()$stack(found))
  vectors
}

# Why each picture could not be read, or NA; with a warning where there is a reason.
reading_errors <- function(answers, call) {
  errors <- picked(answers, "attrgetter", "error", convert = FALSE)
  reasons <- vapply(seq_len(as_r(builtins()$len(errors))), function(place) {
    error <- reticulate::py_get_item(errors, place - 1L)
    if (inherits(error, "python.builtin.NoneType")) NA_character_ else reticulate::py_str(error)
  }, "")
  warn_of_errors(reasons, call)
  reasons
}

# A warning of pictures that could not be read, from the reason or NA of each.
warn_of_errors <- function(reasons, call) {
  bad <- reasons[!is.na(reasons)]
  if (length(bad) > 0) {
    shown <- paste(c(utils::head(bad, 3), if (length(bad) > 3) "and so on"), collapse = "\n")
    text <- sprintf("%d of %d pictures could not be read:\n%s", length(bad), length(reasons), shown)
    warning(structure(
      class = c("convnext_image_warning", "warning", "condition"), list(message = text, call = call)
    ))
  }
}

#' Where a class was seen in a picture
#'
#' Exact Grad-CAM, on every engine.
#'
#' @param path Path or URL of a picture.
#' @param model What [classifier()] takes, or a classifier.
#' @param target The class: its name, WordNet id, or number from 1; by default the most probable one.
#' @param file Where to write the picture, as PNG, JPEG or whatever its name ends in.
#' @param side Longer side of the picture in pixels, as drawn.
#' @return With `file`, that, invisibly. Without, the picture and the heat over it side by side as a `raster`, for
#'   `plot()`, with two attributes: `heat`, a matrix of how much each part speaks for the class, and `target`, a data
#'   frame with its `class`, `label` and `probability`.
#' @examplesIf python_has("convnext", "openvino")
#' heat <- explain(system.file("extdata", "chelsea.jpg", package = "convnext"), "bundled", "cat")
#' attr(heat, "target")
#' plot(heat)
#' @export
explain <- function(path, model, target = NULL, file = NULL, side = 448L) {
  check_paths(path)
  if (length(path) != 1) argument_error("`path` is one picture, not %d.", length(path))
  if (is.numeric(target)) target <- as_whole(target, "target") - 1L
  side <- as_whole(side, "side")
  model <- classifier(model)
  explanation <- from_python(model$explain(as_path(path), target))
  drawn <- from_python(explanation$draw(side))
  if (!is.null(file)) {
    from_python(drawn$save(as_path(file)))
    return(invisible(file))
  }
  picture <- grDevices::as.raster(as_r_array(numpy()$asarray(drawn)), max = 255)
  seen <- explanation$target
  attr(picture, "heat") <- as_r_array(explanation$heat)
  attr(picture, "target") <- data.frame(
    class = as_r(seen$index) + 1L, label = as_r(seen$label), probability = as_r(seen$probability)
  )
  picture
}
