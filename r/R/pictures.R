#' Read pictures as an array
#'
#' Pictures are decoded, turned upright, resized and cropped pixel for pixel as for [classify()]: the short side is
#' resized to `size / crop_fraction`, antialiased, and the middle is cropped.
#'
#' @param paths Paths or URLs of pictures.
#' @param size Side of the squares, in pixels.
#' @param crop_fraction How much of the short side the square shows; 1 for all of it.
#' @return An array of pictures, rows, columns and the channels red, green and blue, from 0 to 255.
#' @examplesIf python_has("convnext")
#' dim(read_pictures(system.file("extdata", "chelsea.jpg", package = "convnext"), size = 64))
#' @export
read_pictures <- function(paths, size = 224L, crop_fraction = 0.875) {
  check_paths(paths)
  size <- as_whole(size, "size")
  from_python({
    recipe <- module("convnext.images.recipe")$Preprocess(size = size, crop_fraction = crop_fraction)
    decode <- module("convnext.images.decode")$decode
    pixels <- module("convnext.images.transform")$pixels
    as_r_array(numpy()$stack(lapply(as_path(paths), function(path) pixels(decode(path), recipe))))
  })
}

check_paths <- function(paths, call = sys.call(-1)) {
  if (!is.character(paths) || length(paths) == 0 || anyNA(paths)) {
    argument_error("`paths` is a character vector of paths or URLs, not %s.", described(paths), call = call)
  }
}

described <- function(x) {
  if (is.character(x)) if (length(x) == 0) "an empty one" else "one with NA" else class(x)[1]
}
