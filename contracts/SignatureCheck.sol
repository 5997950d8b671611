// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Asks a contract wallet whether a signature is its own (EIP-1271), also one that is not deployed (ERC-6492).
/// @notice Never deployed: it is the data of an `eth_call` without `to`, and what its constructor returns is the answer,
/// a word that is 0 when the wallet knows no such signature, else 1 + the index of the first hash that it signed.
/// Whatever a wallet's factory does in such a call is undone with it.
contract SignatureCheck {
    bytes32 private constant WRAPPED = 0x6492649264926492649264926492649264926492649264926492649264926492;
    bytes4 private constant VALID = 0x1626ba7e; // isValidSignature(bytes32,bytes)

    constructor(address wallet, bytes32[] memory hashes, bytes memory signature) {
        uint256 found = _found(wallet, hashes, signature);
        assembly {
            mstore(0, found)
            return(0, 32)
        }
    }

    function _found(address wallet, bytes32[] memory hashes, bytes memory signature) private returns (uint256) {
        if (signature.length < 32 || _lastWord(signature) != WRAPPED) {
            return _firstSigned(wallet, hashes, signature);
        }
        assembly {
            mstore(signature, sub(mload(signature), 32))
        }
        (address factory, bytes memory preparation, bytes memory inner) =
            abi.decode(signature, (address, bytes, bytes));
        uint256 found = _firstSigned(wallet, hashes, inner);
        if (found == 0) {
            // Not deployed yet, or deployed but not yet able to tell: its factory makes it so.
            (bool prepared,) = factory.call(preparation);
            if (prepared) found = _firstSigned(wallet, hashes, inner);
        }
        return found;
    }

    function _firstSigned(address wallet, bytes32[] memory hashes, bytes memory signature)
        private
        view
        returns (uint256)
    {
        if (wallet.code.length == 0) return 0;
        for (uint256 i = 0; i < hashes.length; i++) {
            (bool answered, bytes memory answer) =
                wallet.staticcall(abi.encodeWithSelector(VALID, hashes[i], signature));
            if (answered && answer.length == 32 && bytes32(answer) == bytes32(VALID)) return i + 1;
        }
        return 0;
    }

    function _lastWord(bytes memory signature) private pure returns (bytes32 word) {
        assembly {
            word := mload(add(signature, mload(signature)))
        }
    }
}
