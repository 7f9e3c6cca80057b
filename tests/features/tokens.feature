Feature: Without a good token there is nothing to see
  Over HTTP a bad token is a status. A WebSocket is accepted first and then closed, since a browser is told nothing else.

  Background:
    Given a buyer ada

  Scenario Outline: <token> over <transport> is <code>
    When ada tries to watch buyer:ada over <transport> with <token>
    Then it is refused as <code>
    And the number told is <number>

    Examples:
      | token                      | transport | code            | number |
      | no token                   | SSE       | unauthenticated | 401    |
      | a token that is none       | SSE       | token_invalid   | 401    |
      | a token of another secret  | SSE       | token_invalid   | 401    |
      | an unsigned token          | SSE       | token_invalid   | 401    |
      | a token that has expired   | SSE       | token_expired   | 200    |
      | a token that is none       | WebSocket | token_invalid   | 4003   |
      | a token of another secret  | WebSocket | token_invalid   | 4003   |
      | an unsigned token          | WebSocket | token_invalid   | 4003   |
      | a token that has expired   | WebSocket | token_expired   | 4202   |
