#' What is where in pictures
#'
#' How much of each picture each class covers, and on request the class of each pixel. A picture that cannot be read
#' stops nothing: its row says why, and there is a warning.
#'
#' @inheritParams classify
#' @param model The name of a published segmentation model, the path of a weights file in any layout, or a Keras model
#'   of this package.
#' @param maps Whether to return the class of each pixel.
#' @param labels What the classes are called, if the weights do not say: a character vector, or a file.
#' @param inference `"whole"` for pictures resized to the model's square, `"slide"` for the mean of overlapping windows,
#'   `"tiles"` for windows of large pictures at their own scale.
#' @param flip Whether to average the probabilities with those of the mirrored picture.
#' @param engine What computes: `"auto"`, `"openvino"`, `"onnxruntime"` or `"keras"`.
#' @param batch_size How many pictures, or windows of one, are computed at once.
#' @return A data frame with a row for each class in a picture, the largest first:
#' \describe{
#'   \item{picture}{its path, URL or place in an archive.}
#'   \item{class}{the number of the class, from 1. (In Python it is one less.)}
#'   \item{label}{what the class is called.}
#'   \item{pixels}{how many pixels it covers.}
#'   \item{share}{of all pixels, from 0 to 1.}
#'   \item{error}{why the picture could not be read, else `NA`.}
#' }
#' With `maps`, it has an attribute of this name: a list of matrices, named by the pictures, with the number of each
#' pixel's class, from 1. That of a picture that cannot be read is `NULL`.
#' @examples
#' \dontrun{
#' segment("street.jpg", "convnext_tiny.mmseg_in1k_upernet_ade20k")
#' }
#' @export
segment <- function(paths,
                    model,
                    maps = FALSE,
                    labels = NULL,
                    inference = "whole",
                    flip = FALSE,
                    engine = "auto",
                    batch_size = 4L) {
  check_paths(paths)
  maps <- as_flag(maps, "maps")
  flip <- as_flag(flip, "flip")
  batch_size <- as_whole(batch_size, "batch_size")
  found <- from_python({
    load_torch_for(engine)
    segmenter <- module("convnext")$Segmenter(
      as_path(model), engine,
      labels = as_path(labels), inference = inference, flip = flip
    )
    # One by one: a result keeps its picture.
    answers <- segmenter$predict(as.list(as_path(paths)), batch_size = batch_size)
    reticulate::iterate(answers, function(answer) segmented(answer, maps), simplify = FALSE)
  })
  areas <- do.call(rbind, lapply(found, `[[`, "areas"))
  warn_of_errors(vapply(found, function(each) each$areas$error[[1]], ""), sys.call())
  if (maps) {
    attr(areas, "maps") <- lapply(found, `[[`, "map")
    names(attr(areas, "maps")) <- vapply(found, function(each) each$areas$picture[[1]], "")
  }
  areas
}

# The rows of one picture, and its map.
segmented <- function(answer, maps) {
  record <- as_r(answer$record())
  if (!is.null(record$error)) {
    row <- data.frame(
      picture = record$id, class = NA_integer_, label = NA_character_, pixels = NA_integer_, share = NA_real_,
      error = record$error
    )
    return(list(areas = row, map = NULL))
  }
  column <- function(name, kind) vapply(record$areas, function(area) area[[name]], kind)
  rows <- data.frame(
    picture = record$id, class = column("index", 1L) + 1L, label = column("label", ""), pixels = column("pixels", 1L),
    share = column("share", 1), error = NA_character_
  )
  list(areas = rows, map = if (maps) as_r_array(answer$class_map) + 1)
}
