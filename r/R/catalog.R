#' The published checkpoints
#'
#' @param pattern Shell-style pattern that the whole name matches: `"convnextv2_*"`.
#' @param family `"v1"` or `"v2"`; `NULL` for both.
#' @param size Such as `"tiny"`; `NULL` for all.
#' @return A data frame, V1 before V2, small to large: `name`, `parameters`, `resolution` (pixels of a side),
#'   `num_classes` (0 where there is no classifier), `top1` (ImageNet accuracy in percent as timm measured it, or else
#'   as published) and `licence`, that of the weights.
#' @examplesIf python_has("convnext")
#' list_models("*_384", size = "tiny")
#' @export
list_models <- function(pattern = "*", family = NULL, size = NULL) {
  from_python({
    catalog <- module("convnext.weights.catalog")
    names <- as_r(catalog$list_models(pattern, family = family, size = size))
    rows <- lapply(names, catalog$get_checkpoint)
    column <- function(name, type) as.vector(picked(rows, "attrgetter", name), type)
    measured <- column("timm_top1", "double")
    data.frame(
      name = as.character(names),
      parameters = column("parameters", "integer"),
      resolution = column("resolution", "integer"),
      num_classes = column("num_classes", "integer"),
      top1 = as.double(ifelse(is.na(measured), column("top1", "double"), measured)),
      licence = column("licence", "character")
    )
  })
}
